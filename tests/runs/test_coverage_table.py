"""What was examined and what was not, by reason."""

from rich.table import Table
from rich.text import Text

from tui_lab.core.doctor.findings import Report, Unchecked, reason_lines
from tui_lab.runs.coverage_table import coverage_table, unexamined_table

CHECKS = (
    Unchecked("prompts", "too few rows"),
    Unchecked("overfit", "not run because of loader", waits_for="shuffle_every_step"),
    Unchecked("targets", "too few rows"),
)
REPORT = Report(
    passed=("ids", "loss"),
    not_judged=CHECKS,
    examined=("5 updates", "ids", "loss"),
    not_examined=("how text is generated", *reason_lines(CHECKS)),
)


def rows(table: Table) -> list[tuple[str, str]]:
    labels, texts = (list(column.cells) for column in table.columns)
    return [(str(label), text.plain) for label, text in zip(labels, texts, strict=True) if isinstance(text, Text)]


def test_checks_without_a_result_are_grouped_by_their_reason() -> None:
    assert rows(coverage_table(REPORT)) == [
        ("examined", "5 updates"),
        ("2 passed", "ids, loss"),
        ("not examined", "how text is generated"),
        ("", "prompts, targets: too few rows"),
        ("", "overfit: not run because of loader"),
    ]


def test_checks_that_wait_for_a_fix_are_left_out() -> None:
    assert [text for _, text in rows(unexamined_table(REPORT))] == [
        "how text is generated",
        "prompts, targets: too few rows",
    ]
    assert unexamined_table(Report(not_judged=CHECKS[1:2])).row_count == 0
