"""SARIF files of the doctor: rules, levels and lines of code."""

from pathlib import Path
from typing import Any

import pytest

from tui_lab.cli.sarif import document
from tui_lab.core.doctor.findings import Crashed, Finding, Report


def finding(**changes: Any) -> Finding:
    values: dict[str, Any] = {"code": "causal_leak", "title": "A.", "evidence": "b", "why": "C.", "fix": "D."}
    return Finding(**values | changes)


def test_findings_are_errors_and_hints_are_notes() -> None:
    report = Report(findings=(finding(),), hints=(finding(code="lr_too_low", kind="hint"),))
    [run] = document(report, "train.py")["runs"]
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [("causal_leak", "error"), ("lr_too_low", "note")]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["causal_leak", "lr_too_low"]


@pytest.mark.parametrize(
    ("location", "source", "file", "line"),
    [
        ("sub/train.py:42", "train.py", "sub/train.py", 42),
        ("", "./sub/train.py", "sub/train.py", None),
        ("", "pkg.train", "pkg/train.py", None),
        ("/elsewhere/a b.py:3", "train.py", "file:///elsewhere/a%20b.py", 3),
        ("", "sub/mine.py:MyGPT", "sub/mine.py", None),
        ("", "reverse", "reverse", None),
    ],
)
def test_location_is_the_line_or_else_the_file(
    location: str, source: str, file: str, line: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/train.py").touch()
    [run] = document(Report(findings=(finding(location=location),)), source)["runs"]
    physical = run["results"][0]["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == file
    assert physical.get("region") == (None if line is None else {"startLine": line})


def test_crashed_check_makes_the_execution_unsuccessful() -> None:
    [run] = document(Report(crashed=(Crashed("loss", "ValueError", "no view"),)), "train.py")["runs"]
    [invocation] = run["invocations"]
    assert not invocation["executionSuccessful"] and len(invocation["toolExecutionNotifications"]) == 1
