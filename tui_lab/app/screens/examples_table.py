"""The table of the examples screen: a line for each example, or for each class of targets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding

from tui_lab.app.widgets.table import Table
from tui_lab.core.examples.report import ExamplesReport, Listed, Partition, Share
from tui_lab.util.escape import printable

TEXT = "text"
LEAST_TEXT = 12
"""Columns of the text of an example, at least."""
BAR = "█"
MOST_BAR = 30
"""Columns of a bar of 100 %."""


@dataclass(frozen=True)
class Column:
    """A column. number: whether it is aligned to the right. of: the cell of an example."""

    title: str
    of: Callable[[Listed], str]
    number: bool = True


def _wrong_targets(listed: Listed) -> str:
    wrong = listed.example.n_wrong
    return "" if wrong is None else f"{wrong:,}/{listed.example.n_targets:,}"


def _predictions(listed: Listed) -> str:
    return "" if listed.wrong is None else f"{listed.wrong.n_wrong:,}/{listed.wrong.n_predictions:,}"


def _of_wrong(name: str) -> Callable[[Listed], str]:
    return lambda listed: "" if listed.wrong is None else f"{getattr(listed.wrong, name):,}"


def _of_copies(name: str) -> Callable[[Listed], str]:
    return lambda listed: "" if listed.copies is None else f"{getattr(listed.copies, name):,}"


def _where(listed: Listed) -> str:
    places = () if listed.copies is None else listed.copies.places
    return f"{listed.example.part}→{places[0].part}" if places else listed.example.part


LOSS = Column("loss", lambda listed: "" if listed.example.loss is None else f"{listed.example.loss:.3f}")
EXAMPLE = Column("example", lambda listed: f"{listed.example.example:,}")
COLUMNS: dict[str, tuple[Column, ...]] = {
    "loss": (LOSS, Column("wrong", _wrong_targets), EXAMPLE),
    "wrong": (
        Column("wrong", _predictions),
        Column("at", _of_wrong("n_checkpoints")),
        Column("always", _of_wrong("n_always")),
        Column("forgot", _of_wrong("n_forgotten")),
        LOSS,
        EXAMPLE,
    ),
    "duplicates": (
        Column("equal", _of_copies("n_exact")),
        Column("near", _of_copies("n_near")),
        Column("where", _where, number=False),
        EXAMPLE,
    ),
}


class ExamplesTable(Table[Text]):
    """Call `fill`; the cursor goes to the first row of another report and stays where it is in the same one."""

    BINDINGS = [Binding("enter", "select_cursor", "Open")]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self._filled: object = None
        self._report: ExamplesReport | None = None

    def on_resize(self) -> None:
        if self._report is not None:
            self.fill(self._report)

    def fill(self, report: ExamplesReport | None) -> None:
        """Show a report; None: nothing."""
        room = self.size.width - self.styles.scrollbar_size_vertical
        if (report, room) == self._filled:
            return
        cursor = self.cursor_row if report is self._report else 0
        self._filled = (report, room)
        self._report = report
        self.clear(columns=True)
        if report is None or room <= 0:
            return
        self.cursor_type = "none" if report.by == "classes" else "row"
        if report.by == "classes":
            self._fill_classes(report, room)
        else:
            self._fill_examples(report, room)
        if self.row_count:
            self.move_cursor(row=min(cursor, self.row_count - 1), animate=False)

    def _fill_examples(self, report: ExamplesReport, room: int) -> None:
        rows = all_listed(report)
        columns = COLUMNS[report.by]
        cells = [[column.of(row) for column in columns] for row in rows]
        widths = [
            max(map(cell_len, (column.title, *(texts[number] for texts in cells))))
            for number, column in enumerate(columns)
        ]
        gap = 2 * self.cell_padding
        text_width = max(LEAST_TEXT, room - sum(width + gap for width in widths) - gap)
        for column in columns:
            self.add_column(Text(column.title))
        self.add_column(Text(TEXT))
        for row, texts in zip(rows, cells, strict=True):
            numbers = [
                Text(text, justify="right" if column.number else "left")
                for column, text in zip(columns, texts, strict=True)
            ]
            self.add_row(*numbers, one_line(row.example.text, text_width))

    def _fill_classes(self, report: ExamplesReport, room: int) -> None:
        names = [share.name for partition in report.partitions for share in partition.classes]
        titles = [partition.name for partition in report.partitions]
        columns = ("targets", "of all", "loss", "wrong", "of the loss")
        gap = 2 * self.cell_padding
        used = max(map(cell_len, [*names, *titles]), default=0) + gap + sum(max(len(c), 9) + gap for c in columns)
        bar = max(0, min(MOST_BAR, room - used - gap))
        for title in ("class", *columns, ""):
            self.add_column(Text(title))
        for partition in report.partitions:
            for cells in class_rows(partition, bar):
                self.add_row(*cells)


def all_listed(report: ExamplesReport) -> tuple[Listed, ...]:
    """Return the examples of a report, those that are copies within a part before those that leak."""
    return (*report.listed, *report.leaked)


def one_line(text: str, width: int) -> Text:
    """Return the beginning of a text in one line."""
    shown = printable(text[: width + 1].replace("\n", "↵"))
    return Text(shown if cell_len(shown) <= width else f"{shown[: width - 1]}…", no_wrap=True, overflow="ellipsis")


def class_rows(partition: Partition, bar: int) -> Iterator[list[Text]]:
    """Give the title of a partition and a row for each class, with a bar of its share of the loss."""
    yield [Text(partition.name, "bold"), *(Text() for _ in range(6))]
    for share in partition.classes:
        yield [Text(share.name), *_numbers(share), Text(BAR * round(bar * share.share_of_loss), "cyan")]


def _numbers(share: Share) -> list[Text]:
    loss = "–" if share.loss is None else f"{share.loss:.3f}"
    texts = (
        f"{share.n_targets:,}",
        f"{100 * share.share_of_targets:.1f} %",
        loss,
        f"{100 * share.wrong:.1f} %",
        f"{100 * share.share_of_loss:.1f} %",
    )
    return [Text(text, justify="right") for text in texts]
