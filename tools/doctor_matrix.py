"""Run the doctor on every program of tests/doctor_programs and on its healthy twin.

`python -m tools.doctor_matrix` prints a row for each program; `--write` writes the table of docs/doctor-programs.md,
`--only TEXT` takes the programs with this in their name, `--json FILE` keeps the reports. Takes some minutes.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.doctor_programs.programs import Program, programs
from tui_lab.util.child import child_environment, python_module

PAGE = Path(__file__).parents[1] / "docs" / "doctor-programs.md"
START = "<!-- Written by tools/doctor_matrix.py -->\n"
END = "<!-- End of what tools/doctor_matrix.py writes -->\n"
SECONDS = 120


@dataclass(frozen=True)
class Diagnosis:
    """What `tui-lab doctor SCRIPT --json` answered. report: None if it gave no JSON; then `problem` has its stderr."""

    report: dict[str, Any] | None
    seconds: float
    problem: str = ""

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings, first to last."""
        return tuple(finding["code"] for finding in self.report["findings"]) if self.report else ()

    @property
    def hints(self) -> tuple[str, ...]:
        """The codes of the hints, first to last."""
        return tuple(hint["code"] for hint in self.report["hints"]) if self.report else ()

    @property
    def is_quiet(self) -> bool:
        """Whether there is a report without a finding or a crash."""
        return self.report is not None and not self.report["findings"] and not self.report["crashed"]

    def text(self) -> str:
        """Return the codes, or what else came."""
        if self.report is None:
            return f"no report: {self.problem.strip()[-120:]}".replace("\n", " ")
        crashed = [f"crashed: {crash['check']}" for crash in self.report["crashed"]]
        return ", ".join([*self.codes, *crashed]) or "nothing"


@dataclass(frozen=True)
class Row:
    """A program with its mistake, and its twin without."""

    program: Program
    faulty: Diagnosis
    healthy: Diagnosis

    @property
    def is_named(self) -> bool:
        """Whether the first finding names the cause."""
        return self.faulty.codes[:1] != () and self.faulty.codes[0] in self.program.codes

    @property
    def hint(self) -> str:
        """The hint at the cause of a program without a finding, or ""."""
        return "" if self.faulty.codes else next((one for one in self.faulty.hints if one in self.program.codes), "")

    def line(self) -> str:
        """Return a line for the terminal."""
        verdict = "named" if self.is_named else f"hinted {self.hint}" if self.hint else "MISSED"
        twin = "quiet" if self.healthy.is_quiet else f"ALARM {self.healthy.text()}"
        return f"{self.program.name:32} {verdict:7} {self.faulty.seconds:5.1f} s  {self.faulty.text()} | {twin}"


def diagnose(program: Program, *, fixed: bool) -> Diagnosis:
    """Run the doctor on one script in a process of its own."""
    arguments = ["--", "--fixed"] if fixed else []
    command = python_module("tui_lab", "doctor", str(program.file), "--json", "--timeout", str(SECONDS), *arguments)
    began = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=child_environment(OMP_NUM_THREADS="1")
    )
    seconds = time.monotonic() - began
    try:
        return Diagnosis(json.loads(done.stdout), seconds)
    except ValueError:
        return Diagnosis(None, seconds, done.stderr)


def rows(selected: Sequence[Program], jobs: int) -> Iterator[Row]:
    """Yield a row for each program whose packages are installed."""
    available = [program for program in selected if not program.needs or find_spec(program.needs)]

    def row(program: Program) -> Row:
        return Row(program, diagnose(program, fixed=False), diagnose(program, fixed=True))

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(row, available)


def summary(table: Sequence[Row]) -> str:
    """Return the figures of all rows."""
    named = sum(row.is_named for row in table)
    alarms = sum(not row.healthy.is_quiet for row in table)
    hinted = sum(bool(row.hint) for row in table)
    silent = sum(row.faulty.is_quiet and not row.hint for row in table)
    return (
        f"{named} of {len(table)} causes named first, {hinted} by a hint only; {alarms} alarms on {len(table)} healthy "
        f"twins; nothing found on {silent} faulty programs"
    )


def markdown(table: Sequence[Row]) -> str:
    """Return the table of the page."""
    lines = [summary(table) + ".", "", "| program | style | after | mistake | first finding | twin |"]
    lines.append("|---|---|---|---|---|---|")
    for row in table:
        first = f"`{row.faulty.codes[0]}`" if row.faulty.codes else row.faulty.text()
        first = f"`{row.hint}` (hint)" if row.hint else first
        mark = "" if row.is_named or row.hint else " (missed)"
        twin = "quiet" if row.healthy.is_quiet else row.healthy.text()
        program = row.program
        lines.append(
            f"| {program.name} | {program.style} | {program.source} | {program.cause} | {first}{mark} | {twin} |"
        )
    return "\n".join(lines) + "\n"


def write(table: Sequence[Row]) -> None:
    """Replace the table of the page."""
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n{markdown(table)}\n{END}{after}", "utf-8")


def main() -> int:
    """Diagnose the programs; return 0 if all are named and all twins are quiet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="programs with this text in their name")
    parser.add_argument("--jobs", type=int, default=2, help="programs at the same time")
    parser.add_argument("--json", type=Path, help="file for all reports")
    parser.add_argument("--write", action="store_true", help="write docs/doctor-programs.md")
    options = parser.parse_args()
    table = []
    for row in rows([program for program in programs() if options.only in program.name], options.jobs):
        table.append(row)
        sys.stdout.write(f"{row.line()}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{summary(table)}\n")
    if options.json:
        reports = {row.program.name: {"faulty": row.faulty.report, "fixed": row.healthy.report} for row in table}
        options.json.write_text(json.dumps(reports, indent=1), "utf-8")
    if options.write:
        write(table)
    return 0 if all(row.is_named and row.healthy.is_quiet for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
