"""The keys that steer a run and change it while it trains."""

from textual.screen import Screen

from tui_lab.app.session.replay import Replay
from tui_lab.app.session.session import Source
from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.steady import Steady
from tui_lab.core import commands as cmd

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

    # Relative commands: a key may be pressed again before the change that the last one asked for has come back.

    def do_lr_down(self) -> None:
        self.source.send(cmd.Scale("optim.lr", 0.5))

    def do_lr_up(self) -> None:
        self.source.send(cmd.Scale("optim.lr", 2.0))

    def do_dropout_down(self) -> None:
        self.source.send(cmd.Shift("model.dropout", -DROPOUT_STEP))

    def do_dropout_up(self) -> None:
        self.source.send(cmd.Shift("model.dropout", DROPOUT_STEP))

    def do_batch_down(self) -> None:
        self.source.send(cmd.Scale("train.batch_size", 0.5))

    def do_batch_up(self) -> None:
        self.source.send(cmd.Scale("train.batch_size", 2.0))

    def do_overfit(self) -> None:
        self.source.send(cmd.Cycle("data.overfit", (0, 1)))

    def do_shuffle(self) -> None:
        self.source.send(cmd.Cycle("data.shuffle", SHUFFLES))

    def do_undo(self) -> None:
        self.source.send(cmd.Undo())
