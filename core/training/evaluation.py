"""Validation: the loss and the task's own metric over held-out examples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum
from tui_lab.core.kernels.device import to_device
from tui_lab.core.training.distributed import SINGLE_PROCESS, ProcessGroup
from tui_lab.core.training.loss import exact_matches
from tui_lab.core.training.loss_figures import perplexity
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED, Task

TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Evaluation:
    """loss: mean over all targets of `examples` examples, in nats per target."""

    loss: float
    examples: int
    exact_match: float | None = None
    perplexity: float | None = None


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
    # Read at the end, so that a GPU is not waited for after each batch.
    losses: list[Tensor] = []
    matches: list[Tensor] = []
    targets = 0
    for start in range(0, n, rows * group.size):
        if stop():
            return None
        ids = selected[start : start + rows * group.size][group.rank :: group.size]
        if not len(ids):
            continue
        examples = task.val.examples(ids)
        targets += int((examples[1] != IGNORED).sum())
        x, y = (to_device(array, device) for array in examples)
        if task.metric == "exact_match":
            loss, n_matches = _loss_and_matches(model, x, y)
            matches.append(n_matches)
        else:
            loss = model.loss_sum(x, y)
        losses.append(loss)
    sums = torch.tensor([_sum(losses), targets, _sum(matches)], dtype=torch.float64)
    total, targets, matching = group.all_reduce(sums).tolist()
    mean = total / max(1, targets)
    by_task = {"exact_match": matching / n} if task.metric == "exact_match" else {"perplexity": perplexity(mean)}
    return Evaluation(mean, examples=n, **by_task)


def _loss_and_matches(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed loss and the number of rows that match exactly, [] each."""
    logits = model(x)
    return cross_entropy_sum(logits, y), exact_matches(logits, y).sum()


def _sum(numbers: list[Tensor]) -> float:
    """Return the sum of tensors [], added in float64 and in their order."""
    return float(sum(number.item() for number in numbers))
