"""The rows of a step: which of them made its loss a spike, what they are, and when they were drawn before."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen

from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import named
from tui_lab.app.panes.marked_steps import MarkedSteps
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.step_rows_text import as_text
from tui_lab.app.screens.step_rows_view import ShownRows, StepRowsView
from tui_lab.app.session.state import LabState
from tui_lab.app.session.step_rows import Explained, RowsReader, TargetsMeasured
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.row_list import RowList

if TYPE_CHECKING:
    from tui_lab.core.runs.explain import Explanation, RowLoss

SECONDS_BETWEEN_TICKS = 0.1


class StepRowsScreen(BaseScreen[None], Screen[None]):
    """Asks `reader` for the rows of a step, and for the losses of the targets of the selected one."""

    CSS_PATH = "step_rows.tcss"
    BINDINGS = named(
        "step_rows",
        Binding("r", "rewind", "Rewind"),
        Binding("n", "spike(1)", "Spike", key_display="n N"),
        Binding("N", "spike(-1)", "Previous spike", show=False),
        Binding("full_stop", "step(1)", "Step", key_display=", ."),
        Binding("comma", "step(-1)", "Previous step", show=False),
        Binding("left,h", "target(-1)", "Previous target", show=False),
        Binding("right,l", "target(1)", "Target", key_display="← →"),
        Binding("x", "worst", "Worst target"),
        Binding("up,k", "row(-1)", show=False),
        Binding("down,j", "row(1)", show=False),
        Binding("home", "end(False)", show=False),
        Binding("end", "end(True)", show=False),
        Binding("y", "copy", "Copy", show=False),
        Binding("t", "app.next_theme", "Theme", show=False),
        Binding("escape,q", "dismiss(None)", "Back"),
        Binding("question_mark,f1", "help", "Help"),
    )

    def __init__(
        self,
        state: LabState,
        reader: RowsReader,
        step: int,
        marked_steps: MarkedSteps,
        rewind: "Callable[[Explanation], None] | None",
    ) -> None:
        """rewind: asks how, and forks the run; None if it cannot be forked."""
        super().__init__()
        self._state = state
        self._marked_steps = marked_steps
        self._reader = reader
        self._rewind = rewind
        self._step = step
        """The step that was asked for."""
        self._asked_at = -1
        """The latest step of the run at that time."""
        self.explanation: Explanation | None = None
        self._index = 0
        self._measured: dict[tuple[int, int | None], TargetsMeasured] = {}

    def compose(self) -> ComposeResult:
        yield StepRowsView(id="step-rows")
        yield KeyLine()

    @property
    def view(self) -> StepRowsView:
        return self.query_one(StepRowsView)

    def on_mount(self) -> None:
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._draw())
        self._ask(self._step)

    def on_unmount(self) -> None:
        self._reader.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "rewind":
                return self._rewind is not None and self.explanation is not None
            case "spike":
                return bool(self._marked_steps.until(self._state))
            case _:
                return True

    @property
    def row(self) -> "RowLoss | None":
        """The selected row."""
        rows = () if self.explanation is None else self.explanation.at.rows
        return rows[self._index] if rows else None

    # Messages of the reader

    def _ask(self, step: int) -> None:
        self._step = step
        self._asked_at = self._state.step
        self._reader.explain(step)
        if self.explanation is None:
            self.view.show_text(f"reading the rows of step {step:,} …")

    def tick(self) -> None:
        """Take what was read. In a live run, ask again once the step after this one is done."""
        if not self.is_attached:
            return
        for message in self._reader.drain():
            if isinstance(message, TargetsMeasured):
                self._measured[message.example, message.checkpoint_step] = message
                self._draw(worst=self.row is not None and self.row.example == message.example)
            elif message.step == self._step:
                self._take(message)
        is_last = self.explanation is not None and self.explanation.after is None
        if is_last and self._asked_at <= self._step < self._state.step:
            self._ask(self._step)

    def _take(self, explained: Explained) -> None:
        row = self.row
        self.explanation = explained.explanation
        self.refresh_bindings()
        if self.explanation is None:
            self.view.show_text(explained.error)
            return
        # The same row stays selected when the step after this one is there.
        examples = [each.example for each in self.explanation.at.rows]
        is_same = row is not None and row.example in examples
        self._select(examples.index(row.example) if row is not None and is_same else 0)

    @property
    def _targets(self) -> TargetsMeasured | None:
        """The losses of the targets of the selected row; None until they are measured."""
        if self.explanation is None or self.row is None:
            return None
        return self._measured.get((self.row.example, self.explanation.checkpoint_step))

    def _draw(self, *, worst: bool = False) -> None:
        """Draw the rows. worst: and select the target with the largest loss."""
        ready = self._state.ready
        if self.explanation is None or ready is None:
            return
        next_token = ready.task is not None and ready.task.next_token
        self.view.show(ShownRows(self.explanation, self._index, self._targets, ready.tokenizer, next_token))
        if worst:
            self.view.select_worst()

    # Keys and mouse

    def _select(self, index: int) -> None:
        if self.explanation is None:
            return
        self._index = max(0, min(index, len(self.explanation.at.rows) - 1))
        self._draw(worst=True)
        if self.row is not None and self._targets is None:
            self._reader.measure(self.row, self.explanation.checkpoint_step)

    def action_row(self, by: int) -> None:
        self._select(self._index + by)

    def action_end(self, last: bool) -> None:
        rows = () if self.explanation is None else self.explanation.at.rows
        self._select(len(rows) - 1 if last else 0)

    def action_target(self, by: int) -> None:
        self.view.cells.action_move(by)

    def action_worst(self) -> None:
        """Select the target with the largest loss."""
        self.view.select_worst()

    def on_row_list_chosen(self, message: RowList.Chosen) -> None:
        if message.list.id == "rows":
            self._select(message.index)

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        self.action_row(message.by)

    def action_step(self, by: int) -> None:
        """Go to the step before or after."""
        if 0 < self._step + by <= self._state.step:
            self._ask(self._step + by)

    async def action_spike(self, by: int) -> None:
        """Go to the next or previous spike or row that stood out."""
        step = await self._marked_steps.next(self._state, self._step, by)
        if step is not None and self.is_attached:  # The app may have been closed meanwhile.
            self._ask(step)

    def action_rewind(self) -> None:
        if self._rewind is not None and self.explanation is not None:
            self._rewind(self.explanation)

    def action_copy(self) -> None:
        if self.explanation is not None and self._state.ready is not None:
            copy(self.app, as_text(self.explanation, self.explanation.at.rows, self._state.ready.tokenizer))

    def action_help(self) -> None:
        self.app.push_screen(Help("step_rows", self._state.run_config))
