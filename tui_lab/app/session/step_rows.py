"""Which rows a step had and what each one's loss was: read in a thread, with the losses of its targets on request."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core import commands as cmd
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.spikes import SpikeIndex
from tui_lab.util.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from tui_lab.core.inference.example import CellLosses
    from tui_lab.core.runs.explain import Explanation, RowLoss
    from tui_lab.core.user_code.external_model import Model

NO_WEIGHTS = "no checkpoint before this step, so the losses of the targets are not known"


@dataclass(frozen=True)
class Explained:
    """The answer to a request for `step`, which is None for the largest spike. error: why there is none."""

    step: int | None
    explanation: "Explanation | None" = None
    error: str = ""


@dataclass(frozen=True)
class TargetsMeasured:
    """The losses of the targets of an example. weights: those they are measured with. error: why there are none."""

    example: int
    checkpoint_step: int | None
    losses: "CellLosses | None" = None
    weights: str = ""
    error: str = ""


@dataclass(frozen=True)
class _Measure:
    row: "RowLoss"
    checkpoint_step: int


RowsMessage = Explained | TargetsMeasured
_Request = int | None | _Measure


class RowsReader:
    """Call `explain` and `measure`; the answers come through `drain`. Only the newest request of each is answered.

    send: takes a command that inspects the model, if it trains in this process; it is asked where no checkpoint is.
    """

    def __init__(self, folder: Path, send: Callable[[cmd.Command], None] | None = None) -> None:
        self._run = Run(folder)
        self._spikes = SpikeIndex(self._run)
        self._send = send
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[RowsMessage] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._loaded: tuple[Path, int, Model] | None = None
        self._thread = threading.Thread(target=self._work, name="rows reader", daemon=True)
        self._thread.start()

    def explain(self, step: int | None) -> None:
        """Read the rows of a step, or of the largest spike."""
        self._requests.put(step)

    def measure(self, row: "RowLoss", checkpoint_step: int | None) -> None:
        """Measure the targets of a row with the weights of a checkpoint, or else with those that train."""
        if checkpoint_step is not None:
            self._requests.put(_Measure(row, checkpoint_step))
        elif self._send is not None:

            def refuse(reason: str) -> None:
                self._answers.put(TargetsMeasured(row.example, None, error=reason))

            self._send(cmd.Inspect(lambda model: self._look(model, row), refuse=refuse))
        else:
            self._answers.put(TargetsMeasured(row.example, None, error=NO_WEIGHTS))

    def drain(self) -> list[RowsMessage]:
        """Return the answers since the last call, in order."""
        answers: list[RowsMessage] = []
        while not self._answers.empty():
            answers.append(self._answers.get_nowait())
        return answers

    def close(self) -> None:
        """End the thread once its work in progress is done."""
        self._closed.set()
        self._requests.put(None)

    def join(self) -> None:
        """After `close`: wait for the end of the thread."""
        self._thread.join()

    def _work(self) -> None:
        while True:
            request = self._newest(self._requests.get())
            if self._closed.is_set():
                return
            if isinstance(request, _Measure):
                self._answers.put(self._measured(request))
            else:
                self._answers.put(self._explained(request))

    def _newest(self, request: _Request) -> _Request:
        """Return the newest request of the same kind; those of the other kind wait."""
        waiting: list[_Request] = [request]
        while not self._requests.empty():
            waiting.append(self._requests.get_nowait())
        same = [each for each in waiting if isinstance(each, _Measure) == isinstance(request, _Measure)]
        for other in waiting:
            if isinstance(other, _Measure) != isinstance(request, _Measure):
                self._requests.put(other)
        return same[-1]

    def _explained(self, step: int | None) -> Explained:
        from tui_lab.core.runs.explain import explain

        try:
            return Explained(step, explain(self._run, step, self._spikes))
        except (ConfigError, DataError, RunError) as error:
            return Explained(step, error=str(error))
        except Exception as error:  # The app keeps running and shows the error.
            return Explained(step, error=f"the rows cannot be read: {error!r}")

    def _measured(self, request: _Measure) -> TargetsMeasured:
        from tui_lab.core.inference.example import cell_losses

        row = request.row
        step = request.checkpoint_step
        try:
            step_of_weights, model = self._load(step)
            losses = cell_losses(model, row.x, row.y)
        except (ConfigError, DataError, RunError) as error:
            return TargetsMeasured(row.example, step, error=str(error))
        except Exception as error:
            return TargetsMeasured(row.example, step, error=f"the targets cannot be measured: {error!r}")
        return TargetsMeasured(row.example, step, losses, f"the weights of step {step_of_weights:,}")

    def _load(self, step: int) -> "tuple[int, Model]":
        from tui_lab.core.inference.load_model import load_chosen

        path = self._run.checkpoint_at(step)
        if self._loaded is None or self._loaded[0] != path:
            chosen, model, _ = load_chosen(self._run, "last", at_step=step)
            self._loaded = (path, chosen.step, model)
        return self._loaded[1:]

    def _look(self, model: "Model", row: "RowLoss") -> None:
        """Measure in the trainer's thread."""
        from tui_lab.core.inference.example import cell_losses

        losses = cell_losses(model, row.x, row.y)
        self._answers.put(TargetsMeasured(row.example, None, losses, "the weights now"))
