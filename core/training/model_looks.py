"""Answers the commands that copy or inspect the model that a trainer trains."""

from collections.abc import Iterator

import torch

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.user_code.external_model import Model

ENDED = "the training has ended"
"""Why a command is refused that came too late."""


class ModelLooks:
    """Answers Snapshot and Inspect. A look that fails is refused, or a warning, and the training continues."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._waiting: list[cmd.Snapshot] = []
        """For the next evaluation."""

    def copy(self, command: cmd.Snapshot, step: int, best_step: int | None) -> Iterator[ev.Event]:
        """Copy the weights now, or after the next evaluation. best_step: of the weights, if they are the best."""
        if command.at_evaluation:
            self._waiting.append(command)
        else:
            info = cmd.WeightsInfo(step) if best_step is None else cmd.WeightsInfo(best_step, best=True)
            yield from self._copy(command, step, info)

    def copy_waiting(self, step: int) -> Iterator[ev.Event]:
        """Copy the weights for the commands that have waited for an evaluation; step: of that."""
        while self._waiting:
            yield from self._copy(self._waiting.pop(0), step, cmd.WeightsInfo(step))

    def inspect(self, command: cmd.Inspect, step: int) -> Iterator[ev.Event]:
        """Let a command look at the model, in evaluation mode and without gradients."""
        self._model.eval()
        try:
            with torch.no_grad():
                command.look(self._model)
        except Exception as error:
            yield from _refuse(command, step, f"inspecting the model failed: {error!r}")

    def refuse_waiting(self) -> None:
        """Refuse the commands that wait for an evaluation, which does not come any more."""
        while self._waiting:
            cmd.refuse(self._waiting.pop(0), ENDED)

    def _copy(self, command: cmd.Snapshot, step: int, info: cmd.WeightsInfo) -> Iterator[ev.Event]:
        try:
            weights = ckpt.copy_weights(self._model.state_dict())
        except (RuntimeError, MemoryError) as error:
            yield from _refuse(command, step, f"could not copy the weights: {str(error) or 'out of memory'}")
        else:
            command.receive(weights, info)


def _refuse(command: cmd.Snapshot | cmd.Inspect, step: int, reason: str) -> Iterator[ev.Event]:
    """Refuse a command, or warn where nobody takes the reason."""
    if not cmd.refuse(command, reason):
        yield ev.Warned(step=step, message=reason)
