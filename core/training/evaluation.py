"""Validation: the loss and the task's own metric over held-out examples."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum
from tui_lab.core.training.distributed import SINGLE_PROCESS, ProcessGroup
from tui_lab.core.training.loss import exact_matches
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED, Task

TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class Evaluation:
    """loss: nats a target, the mean over all targets of `examples` examples."""

    loss: float
    exact_match: float | None
    perplexity: float | None
    examples: int


@torch.no_grad()
def evaluate(
    model: Model,
    task: Task,
    limit: int,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Evaluation | None:
    """Measure at most `limit` validation examples, spread evenly. Returns None as soon as `stop()` is true.

    Leaves the model in evaluation mode. Several processes share the examples and call `stop` equally often.
    """
    model.eval()
    n = min(limit, task.val.n_examples)
    chosen = np.linspace(0, task.val.n_examples - 1, n).round().astype(np.int64)
    rows = max(1, TOKENS_AT_ONCE // task.val.length)
    total, targets, right = 0.0, 0, 0
    for start in range(0, n, rows * group.size):
        if stop():
            return None
        ids = chosen[start : start + rows * group.size][group.rank :: group.size]
        if not len(ids):
            continue
        x, y = (torch.from_numpy(a).to(device).contiguous() for a in task.val.examples(ids))
        targets += int((y != IGNORED).sum())
        if task.metric == "exact_match":
            loss, matches = _loss_and_matches(model, x, y)
            right += int(matches.sum())
        else:
            loss = model.loss_sum(x, y)
        total += loss.item()
    total, targets, right = group.all_reduce(torch.tensor([total, targets, right], dtype=torch.float64)).tolist()
    mean = total / max(1, targets)
    scored = task.metric == "exact_match"
    return Evaluation(mean, right / n if scored else None, None if scored else perplexity(mean), n)


def perplexity(loss: float) -> float:
    """exp(loss); a loss beyond what a float can raise gives its largest value."""
    return math.exp(min(loss, 700.0))


def _loss_and_matches(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(x)
    return cross_entropy_sum(logits, y), exact_matches(logits, y)
