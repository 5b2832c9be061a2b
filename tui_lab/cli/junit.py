"""A JUnit file, which CI services show as tests: the requirements of a run, or the checks of the doctor.

The format is that of Apache Ant's JUnit task, as Jenkins, GitLab and GitHub's reporters read it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from tui_lab.core.doctor.findings import Report
from tui_lab.core.runs.summary import Requirement, Summary
from tui_lab.util import files
from tui_lab.util.errors import ConfigError

# XML 1.0, production 2: no other character may stand in a document, not even escaped.
_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Outcome = Literal["passed", "failure", "error", "skipped"]


@dataclass(frozen=True)
class TestCase:
    """One line of the report. message: the value found, or the reason; details: more lines of it."""

    __test__ = False  # Not one of pytest's.
    name: str
    outcome: Outcome = "passed"
    message: str = ""
    details: str = ""
    seconds: float = 0.0


def of_run(requirements: Sequence[Requirement], summary: Summary, failed: str | None) -> list[TestCase]:
    """The training itself, then each requirement. failed: why the training broke off, if it did."""
    seconds = summary.train_seconds
    if failed is not None:
        training = TestCase("training", "error", failed, seconds=seconds)
    else:
        training = TestCase("training", details=f"{summary.reason} after {summary.steps} steps", seconds=seconds)
    return [training, *(_of_requirement(wanted, summary) for wanted in requirements)]


def _of_requirement(wanted: Requirement, summary: Summary) -> TestCase:
    found = f"found {wanted.metric} = {summary.metric(wanted.metric)}"
    if wanted.met(summary):
        return TestCase(wanted.text, details=found)
    return TestCase(wanted.text, "failure", f"required {wanted.text}, {found}")


def of_report(report: Report) -> list[TestCase]:
    """The crashed checks, each an error; the findings, each a failure; then the checks that passed or were skipped."""
    seconds = report.seconds
    return [
        *(
            TestCase(crash.check, "error", f"{crash.error}: {crash.message}", seconds=seconds.get(crash.check, 0.0))
            for crash in report.crashed
        ),
        *(
            TestCase(f.code, "failure", f.title, "\n".join([f.evidence, f.why, f.fix, *f.drawing]))
            for f in report.findings
        ),
        *(TestCase(name, seconds=seconds.get(name, 0.0)) for name in report.passed),
        *(TestCase(skipped.check, "skipped", skipped.reason) for skipped in report.skipped),
    ]


def xml(suite: str, cases: Sequence[TestCase]) -> str:
    """The document; what XML cannot hold stands as an escape of Python's."""
    count = {kind: str(sum(case.outcome == kind for case in cases)) for kind in ("failure", "error", "skipped")}
    numbers = {"tests": str(len(cases)), "failures": count["failure"], "errors": count["error"],
               "skipped": count["skipped"], "time": f"{sum(case.seconds for case in cases):.3f}"}  # fmt: skip
    root = ElementTree.Element("testsuites", {"name": "tui-lab", **numbers})
    parent = ElementTree.SubElement(root, "testsuite", {"name": _clean(suite), **numbers})
    for case in cases:
        named = {"classname": _clean(suite), "name": _clean(case.name), "time": f"{case.seconds:.3f}"}
        element = ElementTree.SubElement(parent, "testcase", named)
        if case.outcome == "passed":
            inside = ElementTree.SubElement(element, "system-out") if case.details else None
        else:
            inside = ElementTree.SubElement(element, case.outcome, {"message": _clean(case.message)})
        if inside is not None and case.details:
            inside.text = _clean(case.details)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def prepare(path: Path) -> None:
    """Make the folder of `path`. Raises ConfigError where it cannot be: before a training, not after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise ConfigError([f"--junit {path}: this is a folder; name a file, as in {path / 'tui-lab.xml'}"])
    except OSError as error:
        raise ConfigError([f"--junit {path}: its folder cannot be made: {error.strerror}"]) from error


def write(path: Path, suite: str, cases: Sequence[TestCase]) -> None:
    """Raises ConfigError where the file cannot be written."""
    try:
        files.write_text(path, xml(suite, cases))
    except OSError as error:
        raise ConfigError([f"--junit {path}: not written: {error.strerror}"]) from error


def _clean(text: str) -> str:
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
