"""A script may train several times: pretraining and fine-tuning, a teacher and its student."""

import ast
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.loop.call_capture import CallCapture
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.script.capture import Capture


class Training:
    """What is recorded from the creation of one optimizer until that of the next, if updates lie between."""

    def __init__(
        self, on_update: Callable[[Any], None], listener: CallCapture, optimizers: Sequence[Optimizer] = ()
    ) -> None:
        self.capture = Capture(lambda: self.recorder.created_optimizers)
        self.recorder = LoopRecorder(optimizers=optimizers, on_update=on_update, capture=listener)
        self.n_updates = 0
        self.first = 0.0
        """When its first update was."""

    def follow(self, earlier: "Training") -> None:
        """Record from now on, in place of an earlier training."""
        earlier.capture.close()
        earlier.recorder.hand_over(self.recorder)


def n_optimizers(script: str) -> int:
    """Return how many optimizers the source of a script creates, of two branches the larger number; 0 if unknown."""
    path = Path(script)
    if not path.is_file():
        return 0
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return 0
    return _n_calls(tree, {kind.__name__ for kind in _kinds(Optimizer)})


def _kinds(kind: type) -> set[type]:
    kinds = {kind}
    subclasses: list[type] = kind.__subclasses__()
    for subclass in subclasses:
        kinds |= _kinds(subclass)
    return kinds


def _n_calls(node: ast.AST, names: set[str]) -> int:
    if isinstance(node, ast.If | ast.IfExp):
        branches: list[Any] = [node.body, node.orelse]
        parts = [branch if isinstance(branch, list) else [branch] for branch in branches]
        return max(sum(_n_calls(part, names) for part in branch) for branch in parts)
    inner = sum(_n_calls(child, names) for child in ast.iter_child_nodes(node))
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        inner += name in names
    return inner


def joined(first: Report, last: Report) -> Report:
    """Return one report on two trainings: all findings, and what was examined of the last."""
    codes = {finding.code for finding in first.findings}
    hinted = {hint.code for hint in first.hints}
    return Report(
        findings=(*first.findings, *(finding for finding in last.findings if finding.code not in codes)),
        hints=(*first.hints, *(hint for hint in last.hints if hint.code not in hinted)),
        crashed=(*first.crashed, *last.crashed),
        passed=last.passed,
        not_judged=last.not_judged,
        not_applicable=last.not_applicable,
        examined=last.examined,
        not_examined=last.not_examined,
        without_updates=last.without_updates,
        updates=last.updates,
        interrupted=last.interrupted,
        seconds={name: first.seconds.get(name, 0.0) + last.seconds.get(name, 0.0) for name in last.seconds},
    )
