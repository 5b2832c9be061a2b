"""The keys that steer a run and change it while it trains."""

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from tui_lab.app.session.replay import Replay
from tui_lab.app.session.session import Source
from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.steady import Steady
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings

SHUFFLES = ("epoch", "once", "off")
DROPOUT_STEP = 0.05


class Steering(Steady[None], Screen[None]):
    """A screen over one run: `source` takes the commands, `state` knows what has happened."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source, self.state = source, LabState()

    @property
    def replayed(self) -> bool:
        return isinstance(self.source, Replay)

    def do_pause(self) -> None:
        paused = self.source.paused if isinstance(self.source, Replay) else self.state.phase == "paused"
        self.source.send(cmd.Resume() if paused else cmd.Pause())

    def do_step(self) -> None:
        self.source.send(cmd.Step(1))

    def do_ten_steps(self) -> None:
        self.source.send(cmd.Step(10))

    def do_evaluate(self) -> None:
        self.source.send(cmd.Evaluate())

    def do_checkpoint(self) -> None:
        self.source.send(cmd.Checkpoint())

    def do_slower(self) -> None:
        if isinstance(self.source, Replay):
            self.source.faster(-1)

    def do_faster(self) -> None:
        if isinstance(self.source, Replay):
            self.source.faster(1)

    def _set(self, key: str, change: Callable[[Any], Any]) -> None:
        if self.state.config is not None:
            self.source.send(cmd.Set(key, change(settings.get(self.state.config, key))))

    def do_lr_down(self) -> None:
        self._set("optim.lr", lambda lr: lr / 2)

    def do_lr_up(self) -> None:
        self._set("optim.lr", lambda lr: lr * 2)

    def do_dropout_down(self) -> None:
        self._set("model.dropout", lambda rate: max(0.0, round(rate - DROPOUT_STEP, 4)))

    def do_dropout_up(self) -> None:
        self._set("model.dropout", lambda rate: min(1.0, round(rate + DROPOUT_STEP, 4)))

    def do_batch_down(self) -> None:
        self._set("train.batch_size", lambda n: max(1, n // 2))

    def do_batch_up(self) -> None:
        self._set("train.batch_size", lambda n: n * 2)

    def do_overfit(self) -> None:
        self._set("data.overfit", lambda n: 0 if n else 1)

    def do_shuffle(self) -> None:
        self._set("data.shuffle", lambda mode: SHUFFLES[(SHUFFLES.index(mode) + 1) % len(SHUFFLES)])

    def do_undo(self) -> None:
        """Take back the last change that is not itself an undoing."""
        stack: list[ev.Changed] = []
        for change in self.state.changes:
            if stack and (stack[-1].key, stack[-1].old, stack[-1].new) == (change.key, change.new, change.old):
                stack.pop()
            else:
                stack.append(change)
        if stack:
            self.source.send(cmd.Set(stack[-1].key, stack[-1].old))
        else:
            self.notify("nothing to undo: no live change since the start")
