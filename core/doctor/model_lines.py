"""The line of the user's model that computes what a finding is about, as one forward pass shows it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.findings import NotApplicable, NotJudged
from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.measures.dependence import record_probe
from tui_lab.core.doctor.measures.loss_gradient import scores
from tui_lab.core.doctor.program.target import Target


def attention_line(target: Target) -> str:
    """Return the line at which the model first weights values by attention; "" if no line of the user does."""
    outside = user_line()  # A script that the doctor runs in has called it from one of its lines.
    with target.evaluating(), torch.no_grad():
        calls = record_probe(target).calls
    return next((call.location for call in calls if call.location not in ("", outside)), "")


def softmax_line(target: Target) -> str:
    """Return the line at which the model calls the softmax whose result it returns; "" if no line of the user does."""
    outside = user_line()
    search = _SoftmaxSearch()
    try:
        with target.evaluating(), torch.no_grad(), search:
            output = scores(target, target.output(target.probe.batch))
    except (NotApplicable, NotJudged):
        return ""
    result = search.result
    is_returned = result is not None and torch.equal(result.flatten(), output.flatten())
    return search.line if is_returned and search.line != outside else ""


class _SoftmaxSearch(TorchFunctionMode):
    """Notes what the last softmax returned, and the line of the user that called it."""

    def __init__(self) -> None:
        super().__init__()
        self.result: Tensor | None = None
        self.line = ""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.result = result
            self.line = user_line()
        return result
