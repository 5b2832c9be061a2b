"""JUnit files, which CI shows as tests: the requirements of a run, or the checks of the doctor.

The format is that of Apache Ant's JUnit task, as Jenkins, GitLab and GitHub's reporters read it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from tui_lab.cli import result_file
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.core.runs.summary import Requirement, Summary

# XML 1.0, production 2: no other character is allowed in a document, not even escaped.
_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Outcome = Literal["passed", "failure", "error", "skipped"]


@dataclass(frozen=True)
class TestCase:
    """One test of the file. message: the value, or the reason of an outcome; details: more lines."""

    __test__ = False  # Not a test of pytest's.
    name: str
    outcome: Outcome = "passed"
    message: str = ""
    details: str = ""
    seconds: float = 0.0


def run_cases(requirements: Sequence[Requirement], summary: Summary, failed: str | None) -> list[TestCase]:
    """Return a case for the run, and one for each requirement. failed: why the run failed, if it did."""
    seconds = summary.train_seconds
    if failed is not None:
        training = TestCase("training", "error", failed, seconds=seconds)
    else:
        training = TestCase("training", details=f"{summary.reason} after {summary.steps} steps", seconds=seconds)
    return [training, *(_requirement_case(requirement, summary) for requirement in requirements)]


def _requirement_case(requirement: Requirement, summary: Summary) -> TestCase:
    value = f"{requirement.metric} = {summary.metric(requirement.metric)}"
    if requirement.met(summary):
        return TestCase(requirement.text, details=value)
    return TestCase(requirement.text, "failure", requirement.measured(summary))


def report_cases(report: Report) -> list[TestCase]:
    """Return crashed checks as errors, findings as failures, hints as passed, then all other checks."""
    seconds = report.seconds
    cases = []
    for crash in report.crashed:
        message = f"{crash.error}: {crash.message}"
        cases.append(TestCase(crash.check, "error", message, crash.traceback, seconds.get(crash.check, 0.0)))
    cases += [TestCase(finding.code, "failure", finding.title, _details(finding)) for finding in report.findings]
    cases += [TestCase(hint.code, details=f"hint: {hint.title}\n{_details(hint)}") for hint in report.hints]
    cases += [TestCase(name, seconds=seconds.get(name, 0.0)) for name in report.passed]
    for unchecked in (*report.not_judged, *report.not_applicable):
        cases.append(TestCase(unchecked.check, "skipped", unchecked.reason))
    return cases


def _details(finding: Finding) -> str:
    location = [finding.location] if finding.location else []
    return "\n".join([*location, finding.evidence, finding.why, finding.fix, *finding.drawing])


def xml(suite: str, cases: Sequence[TestCase]) -> str:
    """Return the document; characters that XML does not allow are written as Python escapes."""
    count = {kind: str(sum(case.outcome == kind for case in cases)) for kind in ("failure", "error", "skipped")}
    numbers = {
        "tests": str(len(cases)),
        "failures": count["failure"],
        "errors": count["error"],
        "skipped": count["skipped"],
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "tui-lab", **numbers})
    parent = ElementTree.SubElement(root, "testsuite", {"name": _clean(suite), **numbers})
    for case in cases:
        attributes = {"classname": _clean(suite), "name": _clean(case.name), "time": f"{case.seconds:.3f}"}
        element = ElementTree.SubElement(parent, "testcase", attributes)
        if case.outcome == "passed":
            inside = ElementTree.SubElement(element, "system-out") if case.details else None
        else:
            inside = ElementTree.SubElement(element, case.outcome, {"message": _clean(case.message)})
        if inside is not None and case.details:
            inside.text = _clean(case.details)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def write(path: Path, suite: str, cases: Sequence[TestCase]) -> None:
    """Write the cases to `path`. Raises ConfigError if the file cannot be written."""
    result_file.write(path, xml(suite, cases), "--junit")


def _clean(text: str) -> str:
    return _NOT_XML.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
