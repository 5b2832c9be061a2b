"""The batch pane: the examples of a step of the run, and the keys that go to another step."""

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import DescendantFocus
from textual.widgets import Input

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of, named
from tui_lab.app.panes.batch_text import losses_text, measured_text
from tui_lab.app.panes.loaded_batch import LoadedBatchView
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.recorded_batch import RecordedBatchView
from tui_lab.app.session.attention_source import Rows, rows_of_batch
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.input import Field
from tui_lab.core import commands as cmd
from tui_lab.core.config.script import is_imported

SCRIPT_HINTS = ("n N row", "m by loss", "A attention", "I inside")
LATEST_ONLY = "A script makes its own batches: only the latest one is recorded."


class BatchPane(Pane):
    """Shows the batch that a loader gave a step of our own runs, or the latest one that was recorded from a script."""

    number = 3
    title = "Batch"
    help_name = "batch"
    main = "#cells"
    hints: Sequence[str] = ("n N example", "m by loss", ", . step", "/ go to", "i live", "A attention", "I inside")

    BINDINGS = named(
        "batch",
        Binding("comma", "goto(-1)", "Previous step", show=False),
        Binding("full_stop", "goto(1)", "Next step", show=False),
        Binding("pageup", "goto(-100)", "100 steps back", show=False),
        Binding("pagedown", "goto(100)", "100 steps forward", show=False),
        Binding("slash", "ask_step", "Go to step", show=False),
        Binding("i", "follow", "Follow", show=False),
        Binding("escape", "follow", "Follow", show=False),
    )

    def __init__(self, id: str, send: Callable[[cmd.Command], None]) -> None:
        super().__init__(id=id)
        self.chosen_step: int | None = None
        """The step the user went to, counted from 0; None: follow the live step."""
        self.is_replay = False
        """Then the batch is always that of the step shown: pause the replay to read it."""
        self.loaded = LoadedBatchView(id="loaded-batch", send=send)
        self._recorded = RecordedBatchView(id="recorded-batch")
        self._state: LabState | None = None
        self._is_script = False

    def compose(self) -> ComposeResult:
        yield self.loaded
        yield Field(id="goto", placeholder="step", type="integer")
        yield self._recorded

    def show_script(self) -> None:
        """Show the batches that are recorded from a script from now on."""
        self._is_script = True
        self.hints = SCRIPT_HINTS
        self.main = "#recorded-cells"
        had_focus = self.loaded.cells.has_focus
        self.loaded.display = False
        self._step_field.display = False
        self._recorded.display = True
        if had_focus:
            self.focus_now(self.query_one(self.main))

    @property
    def _step_field(self) -> Input:
        return self.query_one("#goto", Input)

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        if self._is_script:
            self.hints = () if is_imported(state.config) else SCRIPT_HINTS
            self._recorded.show(state, now)
        elif state.ready is not None:
            self.loaded.show(state, self.step_shown(state), now, following=self._following, kept=self._is_kept)
            self._show_title()

    def summary(self, state: LabState) -> str:
        if self._is_script or state.ready is None:
            return ""
        return f"the examples of step {self.step_shown(state) + 1:,}"

    def _show_title(self) -> None:
        if self.is_line or self.loaded.shown_batch is None:
            return
        title = self._title_of(self._losses_text())
        if title != self.border_title:
            self.border_title = title

    def _losses_text(self) -> str:
        """Return what the losses are and with which weights, if that is not plain, or why there are none."""
        losses = self.loaded.losses
        config = None if self._state is None else self._state.trainer_config
        n_free = self.outer_size.width - len(f"╭─ {self.number} {self.title}   ─╮")
        if not losses.problem:
            if losses.weights is None and losses.model_step >= 0 and config is not None and config.faults:
                return measured_text(None if self._following else losses.model_step, n_free)
            return losses_text(losses.weights, n_free)
        saves = bool(self.screen.check_action("do", ("checkpoint",)))
        key = keymap_of(self.app).key_of(BY_ID["checkpoint"]) if saves else ""
        hint = f" ({key})" if key else ""
        text = f"loss needs a checkpoint{hint}"
        return text if len(text) <= n_free else f"no checkpoint{hint}"

    def current_example(self, state: LabState) -> tuple[Rows, int] | None:
        """Return the rows and which of them is shown, or would be if the pane were visible; None before the start."""
        if state.is_script:
            return self._recorded.current_row(state)
        if self.display and not self.is_line and self.loaded.shown_batch is not None:
            batch = self.loaded.shown_batch
        else:
            step = self.step_shown(state)
            loader = state.loader_at(step)
            if loader is None:
                return None
            batch = loader.batch(step)
        return rows_of_batch(batch), self.loaded.cells.row % len(batch.ids)

    def copied(self) -> str:
        """Return the current example."""
        return self._recorded.copied() if self._is_script else self.loaded.copied()

    @property
    def has_batch(self) -> bool:
        """Whether a batch of a script was recorded."""
        reading = self._recorded.reading
        return reading is not None and reading.batch is not None

    def step_shown(self, state: LabState) -> int:
        """Return the step the user went to, or the latest step."""
        return self.chosen_step if self.chosen_step is not None else max(0, state.step - 1)

    @property
    def _following(self) -> bool:
        """Whether the pane follows a live run."""
        return self.chosen_step is None and self._state is not None and self._state.phase == "running"

    @property
    def _is_kept(self) -> bool:
        """Whether a batch stays for a moment while the model trains on."""
        return self._following and not self.is_replay

    def rewound(self) -> None:
        self.loaded.rewound()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Measure at once: the user looks here."""
        self.loaded.losses.measure_soon()

    def action_goto(self, by: int) -> None:
        if self._state is not None:
            self.go_to(self.step_shown(self._state) + by)

    def go_to(self, step: int) -> None:
        """Show the batch of `step`, past or future."""
        if self._state is None or self._refused():
            return
        loaders = self._state.loaders
        self.chosen_step = max(loaders[0].from_step if loaders else 0, step)
        self._show_chosen()

    def _refused(self) -> bool:
        """Say that there are no other batches, if so."""
        if self._is_script:
            self.app.notify(LATEST_ONLY)
        return self._is_script

    def action_follow(self) -> None:
        if self._is_script:
            return
        self.chosen_step = None
        self._step_field.display = False
        self.focus_now(self.loaded.cells)
        self._show_chosen()

    def _show_chosen(self) -> None:
        """Show the batch that was asked for without delay."""
        if self._state is not None:
            self.loaded.show_at_once(self._state, self.step_shown(self._state), kept=self._is_kept)
            self._show_title()

    def action_ask_step(self) -> None:
        if self._refused():
            return
        self._step_field.display = True
        self._step_field.value = ""
        self.focus_now(self._step_field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip().lstrip("-").isdigit():
            self.go_to(int(event.value) - 1)  # Users count from 1.
        event.input.display = False
        self.focus_now(self.loaded.cells)
