"""Validation: the loss and the task's own metric over held-out examples."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum
from tui_lab.core.kernels.device import to_device
from tui_lab.core.training.distributed import SINGLE_PROCESS, ProcessGroup
from tui_lab.core.training.loss import exact_matches
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED, Task

TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Evaluation:
    """loss: mean over all targets of `examples` examples, in nats per target."""

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
    selected = np.linspace(0, task.val.n_examples - 1, n).round().astype(np.int64)
    rows = max(1, TOKENS_PER_BATCH // task.val.length)
    total = 0.0
    targets = 0
    matching = 0
    for start in range(0, n, rows * group.size):
        if stop():
            return None
        ids = selected[start : start + rows * group.size][group.rank :: group.size]
        if not len(ids):
            continue
        x, y = (to_device(array, device) for array in task.val.examples(ids))
        targets += int((y != IGNORED).sum())
        if task.metric == "exact_match":
            loss, matches = _loss_and_matches(model, x, y)
            matching += int(matches.sum())
        else:
            loss = model.loss_sum(x, y)
        total += loss.item()
    sums = torch.tensor([total, targets, matching], dtype=torch.float64)
    total, targets, matching = group.all_reduce(sums).tolist()
    mean = total / max(1, targets)
    if task.metric == "exact_match":
        return Evaluation(mean, exact_match=matching / n, perplexity=None, examples=n)
    return Evaluation(mean, exact_match=None, perplexity=perplexity(mean), examples=n)


def perplexity(loss: float) -> float:
    """Return exp(loss), with the loss cut at 700, near the largest exponent of a float."""
    return math.exp(min(loss, 700.0))


def _loss_and_matches(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(x)
    return cross_entropy_sum(logits, y), exact_matches(logits, y)
