"""What the screen with the rows of a step draws: the lists of its rows and of the steps beside it, and one row."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.widgets import Static

from tui_lab.app.panes.batch_text import cell_details
from tui_lab.app.panes.cells import NAME_WIDTH, Cells, Example, cell_rows
from tui_lab.app.screens.step_rows_text import (
    about_step,
    about_suspects,
    columns,
    example_title,
    history_line,
    row_line,
    side_title,
    strips,
)
from tui_lab.app.session.step_rows import TargetsMeasured
from tui_lab.app.widgets.row_list import RowList
from tui_lab.app.widgets.static_text import update_text
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.escape import printable

if TYPE_CHECKING:
    from tui_lab.core.runs.explain import Explanation, StepRows

LEAST_WIDTH_FOR_SIDES = 110
"""Columns from which the rows of the step before and after are listed, too."""
LEAST_CELL_LINES = 4
CELLS_SHARE = 0.35
"""Of the height, for the tokens of the selected row; the rest is for the lists."""


@dataclass(frozen=True)
class ShownRows:
    """index: of the selected row. targets: its losses, None until they are measured."""

    explanation: "Explanation"
    index: int
    targets: TargetsMeasured | None
    tokenizer: Tokenizer
    next_token: bool


class StepRowsView(Vertical):
    """Call `show`, or `show_text` while there is nothing to show."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._shown: ShownRows | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="about")
        yield Static(id="strips")
        with Horizontal(id="lists"):
            yield RowList(id="before")
            yield RowList(id="rows")
            yield RowList(id="after")
        yield Static(id="row")
        yield Cells(id="row-cells")
        yield Static(id="target")

    def on_mount(self) -> None:
        self.query_one(Cells).can_focus = False

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self._draw)

    def show_text(self, text: str) -> None:
        """Show a text instead of rows."""
        self._shown = None
        self._show_parts(False)
        self._put("#about", Text(printable(text)))

    def show(self, shown: ShownRows) -> None:
        self._shown = shown
        self._show_parts(True)
        self._draw()

    def _show_parts(self, is_shown: bool) -> None:
        for selector in ("#strips", "#lists", "#row", "#row-cells", "#target"):
            self.query_one(selector).display = is_shown

    # The target

    @property
    def cells(self) -> Cells:
        return self.query_one(Cells)

    def select_worst(self) -> None:
        """Select the target with the largest loss."""
        losses = None if self._shown is None or self._shown.targets is None else self._shown.targets.losses
        if losses is not None and not np.isnan(losses.losses).all():
            self.cells.selected = int(np.nanargmax(losses.losses))
            self._draw()

    def on_cells_selected(self) -> None:
        if self._shown is not None:
            self._draw_row(self._shown)

    # Drawing

    def _draw(self) -> None:
        if self._shown is None:
            return
        explanation = self._shown.explanation
        about = [about_step(explanation), about_suspects(explanation)]
        self._put("#about", Text("\n").join(about))
        self._put("#strips", strips(explanation, self._width))
        self._draw_lists(self._shown)
        self._draw_row(self._shown)

    @property
    def _width(self) -> int:
        return max(20, self.size.width - 2)

    def _draw_lists(self, shown: ShownRows) -> None:
        at = shown.explanation.at
        suspects = {row.row for row in shown.explanation.suspects}
        has_sides = self.size.width >= LEAST_WIDTH_FOR_SIDES

        def line(index: int, width: int) -> Text:
            row = at.rows[index]
            is_suspect = row.row in suspects
            is_selected = index == shown.index
            return row_line(row, shown.tokenizer, width, full=True, suspect=is_suspect, selected=is_selected)

        def head(width: int) -> list[Text]:
            names = columns(width, full=True)
            return [side_title(at, "this one", width), names] if has_sides else [names]

        steps = (shown.explanation.before, at, shown.explanation.after)
        n_most = max(len(step.rows) for step in steps if step is not None)
        self.query_one("#lists").styles.max_height = n_most + len(head(self._width))
        self.query_one("#rows", RowList).show(head, line, len(at.rows), shown.index)
        for name, step in (("before", shown.explanation.before), ("after", shown.explanation.after)):
            side = self.query_one(f"#{name}", RowList)
            side.display = has_sides
            _show_side(side, step, name, shown.tokenizer)

    def _draw_row(self, shown: ShownRows) -> None:
        """Draw the selected row: when it was drawn before, its tokens, and the selected target."""
        explanation = shown.explanation
        rows = explanation.at.rows
        self.cells.display = bool(rows)
        if not rows:
            return
        row = rows[shown.index]
        title = Text(example_title(row, len(rows)), "bold", no_wrap=True, overflow="ellipsis")
        self._put("#row", Text("\n").join([title, history_line(row, self._width)]))
        losses = None if shown.targets is None else shown.targets.losses
        example = Example(shown.tokenizer, shown.next_token, row.x, row.y, losses, row.row)
        n_lines = 2 * len(cell_rows(example, self._width - NAME_WIDTH))
        self.cells.styles.height = min(n_lines, max(LEAST_CELL_LINES, int(CELLS_SHARE * self.size.height)))
        self.cells.show_examples([example])
        title_of_target = _target_title(self.cells.selected, shown.targets)
        self._put("#target", cell_details(title_of_target, example, self.cells.selected, self._width))

    def _put(self, selector: str, text: Text) -> None:
        update_text(self.query_one(selector, Static), text)


def _show_side(side: RowList, step: "StepRows | None", name: str, tokenizer: Tokenizer) -> None:
    """Show the rows of the step before or after."""

    def head(width: int) -> list[Text]:
        title = side_title(step, name, width)
        return [title] if step is None else [title, columns(width, full=False)]

    rows = () if step is None else step.rows
    side.show(head, lambda index, width: row_line(rows[index], tokenizer, width, full=False), len(rows))


def _target_title(selected: int, targets: TargetsMeasured | None) -> str:
    if targets is None:
        return f"t = {selected}; measuring the losses of the targets …"
    return f"t = {selected}; {printable(targets.error) or f'losses of the targets with {targets.weights}'}"
