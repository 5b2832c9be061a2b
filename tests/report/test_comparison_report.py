"""The HTML page of compared runs: what `runs compare` prints, escaped, with the code where it was asked for."""

import re
from pathlib import Path

import pytest

from tests.command_line import CliError, RunCli
from tests.core.recorded import recorded_script, script_config
from tests.report.test_report import EVIL, Page
from tui_lab.core.runs.code import CodeFile, RecordedCode, write_code
from tui_lab.report import comparison_report as page
from tui_lab.runs.comparing import Comparison, compare

SAME = "import torch\n"


def script(path: Path, text: str, lr: float) -> None:
    run = recorded_script(path, config=script_config(learning_rate=lr))
    content = text.encode()
    write_code(run.path, RecordedCode((CodeFile("train.py", text, len(content)),), "train.py"), {"train.py": content})


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Two runs of scripts that differ in a setting and a line."""
    script(tmp_path / "a", f"{SAME}x = 1\n", 0.01)
    script(tmp_path / "b", f"{SAME}x = '{EVIL}'\n\ty = 2\n", 0.02)
    return compare([str(tmp_path / "a"), str(tmp_path / "b")], None)


def test_page_has_what_the_command_prints_and_the_lines_of_the_code(comparison: Comparison) -> None:
    source = page.comparison_report(comparison, code=True)
    shown = Page(source)
    assert not shown.open and not shown.requests and not {"script", "img"} & set(shown.tags) and "\x1b" not in source
    expected = [
        "2 runs compared",
        "train loss 0.25 0.25",
        "settings.learning_rate 0.01 0.02",
        "The code differs: train.py (2 lines)",
        "-x = 1",
        "<script>alert(1)</script>",
        *map(str.strip, comparison.verdict_text().splitlines()),
    ]
    assert [text for text in expected if text not in shown.text] == []
    assert re.findall(r'<span class="(\w+)">(.{6})', source) == [
        ("removed", "-x = 1"), ("added", "+x = &"), ("added", "+    y")
    ]  # fmt: skip
    assert "<svg" in source


@pytest.mark.usefixtures("without_charts")
def test_lines_of_the_code_are_only_there_where_asked_for_and_not_without_end(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "x = 1" not in Page(page.comparison_report(comparison, code=False)).text
    monkeypatch.setattr(page, "MOST_LINES", 5)
    text = Page(page.comparison_report(comparison, code=True)).text
    assert "-x = 1" in text and "alert" not in text and "and 2 more lines" in text


@pytest.mark.usefixtures("comparison")
def test_command_writes_the_page(run_cli: RunCli, cli_error: CliError, tmp_path: Path) -> None:
    command = ("runs", "compare", tmp_path / "a", tmp_path / "b", "--html")
    to = tmp_path / "page.html"
    assert run_cli(*command, to, "--code").out.endswith(f"\n{to}\n") and "x = 1" in to.read_text("utf-8")
    assert cli_error(*command, tmp_path / "page.svg").problems[0].key == "--html"
