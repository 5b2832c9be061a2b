"""Generate text with the model of a run: in this process from a copy of the weights, or in the process of a script."""

from pathlib import Path

from tui_lab.app.session.generation_thread import GenerationRequest, GenerationThread
from tui_lab.app.session.messages import GenerationMessage, WeightsCopied, WeightsNotCopied
from tui_lab.app.session.script_generation import ScriptGeneration
from tui_lab.app.session.script_query import RunningScript
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core.config.script import is_imported


class Generation:
    """Answer one request at a time; a new one ends the one before. `drain` returns the messages.

    With `copy_weights` they also have the weights of an evaluation, which `start` takes.
    """

    def __init__(self, source: Source, state: LabState) -> None:
        self._source = source
        self._state = state
        self._here = GenerationThread(source.send)
        self._in_script = ScriptGeneration()
        self._waits = False
        """Whether a copy of the weights has been asked for."""

    def copy_weights(self, *, at_evaluation: bool) -> None:
        """Have weights copied, unless such a copy is awaited already. Only for a model that trains in this process."""
        if self._source.role == "training" and not self._waits:
            self._waits = True
            self._here.copy_weights(at_evaluation=at_evaluation)

    def start(self, request: GenerationRequest, copied: WeightsCopied | None = None) -> None:
        """Answer a request once the run is ready; with an error if its model cannot be asked."""
        ready = self._state.ready
        config = self._state.trainer_config
        if ready is None:
            return
        if config is not None:
            self._here.start(request, config, ready.tokenizer, copied)
        elif reason := why_no_model(self._source, self._state):
            self._in_script.refuse(request, reason)
        else:
            script = RunningScript(self._source.send, Path(ready.path), lambda: self._state.phase)
            self._in_script.start(request, script)

    def stop(self) -> None:
        self._here.stop()
        self._in_script.stop()

    def drain(self) -> list[GenerationMessage]:
        messages = [*self._here.drain(), *self._in_script.drain()]
        if any(isinstance(message, WeightsCopied | WeightsNotCopied) for message in messages):
            self._waits = False
        return messages


def why_no_model(source: Source, state: LabState) -> str:
    """Return why the model of a script cannot be asked for anything; empty if it can."""
    if is_imported(state.config):
        return "an imported run has no model"
    if source.role == "steering" and not state.over:
        return ""
    if source.role == "watching" and not state.over:
        return "this app cannot write to the run folder, so it cannot ask the script"
    return "the model exists only in the script, which has ended"
