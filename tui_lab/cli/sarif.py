"""SARIF files, which code scanning shows as notes on lines of code: the findings and hints of the doctor.

The format is SARIF 2.1.0 (OASIS, 2020).
"""

import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tui_lab.cli import result_file
from tui_lab.core.doctor.catalog import CATALOG
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.util.strict_json import dumps

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LINE = re.compile(r"^(?P<file>.+):(?P<line>\d+)$")


def document(report: Report, source: str) -> dict[str, Any]:
    """Return the SARIF log of a report on `source`; crashed checks are notifications of the tool."""
    findings = (*report.findings, *report.hints)
    results = [_result(finding, source) for finding in findings]
    of_code = {finding.code: finding for finding in findings}
    crashes = [
        {"level": "error", "message": {"text": f"{crash.check}: {crash.error}: {crash.message}"}}
        for crash in report.crashed
    ]
    driver = {
        "name": "tui-lab doctor",
        "version": importlib.metadata.version("tui-lab"),
        "rules": [_rule(of_code[code]) for code in sorted(of_code)],
    }
    invocation = {"executionSuccessful": not report.crashed, "toolExecutionNotifications": crashes}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "invocations": [invocation], "results": results}],
    }


def write_error(path: Path, message: str) -> None:
    """Write that the doctor could not examine anything. Raises ConfigError if the file cannot be written."""
    log = document(Report(), "")
    log["runs"][0]["invocations"] = [
        {
            "executionSuccessful": False,
            "toolExecutionNotifications": [{"level": "error", "message": {"text": message}}],
        }
    ]
    result_file.write(path, dumps(log, 2) + "\n", "--sarif")


def write(path: Path, report: Report, source: str) -> None:
    """Write the report to `path`. Raises ConfigError if the file cannot be written."""
    result_file.write(path, dumps(document(report, source), 2) + "\n", "--sarif")


def _rule(finding: Finding) -> dict[str, Any]:
    code = str(finding.code)
    if code not in CATALOG:  # Of a plug-in.
        return {"id": code, "shortDescription": {"text": finding.title}, "help": {"text": finding.fix}}
    entry = CATALOG[code]
    return {
        "id": code,
        "shortDescription": {"text": entry.meaning},
        "fullDescription": {"text": f"{entry.symptom} {entry.test}"},
        "help": {"text": entry.fix},
    }


def _result(finding: Finding, source: str) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "level": "error" if finding.kind == "finding" else "note",
        "message": {"text": f"{finding.title} {finding.evidence}. {finding.fix}"},
        "locations": [_location(finding.location, source)],
    }


def _location(location: str, source: str) -> dict[str, Any]:
    """Return the line of the finding, or the whole file of `source`."""
    match = _LINE.match(location)
    file = match["file"] if match else _file_of(source)
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(Path(file))}}
    if match:
        physical["region"] = {"startLine": int(match["line"])}
    return {"physicalLocation": physical}


def _file_of(source: str) -> str:
    """Return the file of a script, of FILE.py:NAME or of a module, "pkg.train"."""
    file = re.sub(r"(\.py):.*$", r"\1", source)
    module = file.replace(".", "/")
    files = [name for name in (file, f"{module}.py", f"{module}/__main__.py") if Path(name).is_file()]
    return files[0] if files else file


def _uri(file: Path) -> str:
    """Return the address of a file: relative to the current folder if it is in there, as code scanning expects."""
    path = Path(os.path.abspath(file))
    if path.is_relative_to(Path.cwd()):
        return quote(path.relative_to(Path.cwd()).as_posix())
    return path.as_uri()
