"""The keys that open a screen about examples: attention, a look inside the model, and the hardest examples."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.app.panes.recorded_batch import NO_TOKENS
from tui_lab.app.session.attention_source import AttentionSource, InspectedMaps, ScriptMaps
from tui_lab.app.session.generation import why_no_model
from tui_lab.app.session.inside_source import InsideSource, InspectedInside, ScriptInside
from tui_lab.app.session.script_query import RunningScript
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.util.errors import RunError

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen

ONLY_LAYERS = "Not available: {}. Layers over time (4) are recorded by the script."


class ExampleControls:
    """Open the screens about the examples of a lab's run."""

    def __init__(self, lab: "LabScreen") -> None:
        self._lab = lab
        self.actions: dict[str, Callable[[], object]] = {
            "attention": self.show_attention,
            "examples": self.show_examples,
            "inside": self.show_inside,
        }

    def show_attention(self) -> None:
        lab = self._lab
        if lab.state.is_script and (reason := why_no_model(lab.source, lab.state)):
            lab.notify(f"Attention is not available: {reason}.", severity="warning")
            return
        example = lab.batch_pane.current_example(lab.state)
        if example is None:
            lab.notify(self._why_no_example(), severity="warning")
            return

        from tui_lab.app.screens.attention import AttentionScreen

        rows, row = example
        source: AttentionSource = InspectedMaps(lab.source.send)
        replayed = lab.source.role != "training"
        if lab.state.is_script and lab.state.ready is not None:
            source = ScriptMaps(self._script(lab.state.ready.path))
            replayed = False
        above = None if lab.lesson is None else lab.lesson.text_above_attention()
        lab.app.push_screen(
            AttentionScreen(
                lab.state, rows, row, source, self._do_if_applies, lab.clock, replayed=replayed, above=above
            )
        )

    def show_inside(self) -> None:
        """Look inside the model at the selected example; without one, show the layers over time."""
        from tui_lab.app.screens.inside.screen import InsideScreen

        lab = self._lab
        example = lab.batch_pane.current_example(lab.state)
        rows, row = (None, 0) if example is None else example
        why_not = self._why_no_example() if rows is None else ""
        source: InsideSource = InspectedInside(lab.source.send)
        replayed = lab.source.role != "training"
        if lab.state.is_script and lab.state.ready is not None:
            source = ScriptInside(self._script(lab.state.ready.path))
            replayed = False
            if reason := why_no_model(lab.source, lab.state):
                rows = None
                why_not = ONLY_LAYERS.format(reason)
        lab.app.push_screen(
            InsideScreen(
                lab.state,
                rows,
                row,
                source,
                self._do_if_applies,
                lab.clock,
                replayed=replayed,
                why_no_example=why_not,
            )
        )

    def show_examples(self) -> None:
        lab = self._lab
        ready = lab.state.ready
        if ready is None:
            lab.notify(f"There are no examples yet: the run is being opened ({lab.state.doing}).", severity="warning")
            return

        from tui_lab.app.screens.examples import ExamplesScreen
        from tui_lab.app.session.examples_process import ExamplesProcess

        def is_live() -> bool:
            return lab.source.role == "training" and not lab.state.over

        def step() -> int | None:
            """Return the step of the checkpoint that a replay is at, as in the batch pane."""
            try:
                return step_of(Run(Path(ready.path)).checkpoint_at(lab.state.step)) if is_replay else None
            except RunError:
                return None

        is_replay = lab.source.role == "replay"
        asker = ExamplesProcess(Path(ready.path), lab.source.send)
        lab.app.push_screen(ExamplesScreen(ready.name, asker, lab.state.run_config, live=is_live, step=step))

    def _script(self, folder: str) -> RunningScript:
        lab = self._lab
        return RunningScript(lab.source.send, Path(folder), lambda: lab.state.phase)

    def _why_no_example(self) -> str:
        lab = self._lab
        if lab.state.is_script:
            return NO_TOKENS if lab.batch_pane.has_batch else "There is no example yet: no batch is recorded."
        return f"There is no example yet: the run is being opened ({lab.state.doing})."

    def _do_if_applies(self, id: str) -> None:
        if self._lab.is_enabled(id):
            self._lab.action_do(id)
