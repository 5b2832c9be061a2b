"""Where the result of `tui-lab doctor` goes: stdout, and the files of --junit and --sarif."""

from pathlib import Path
from types import TracebackType
from typing import Self

from tui_lab.cli import doctor, junit, result_file, sarif
from tui_lab.cli.output import say, write_json
from tui_lab.core.doctor.diagnose import Interrupted
from tui_lab.core.doctor.findings import Report
from tui_lab.util.errors import LabError


class DoctorOutput:
    """A context manager around the examination: prepares the files, and writes why there is no report if it fails."""

    def __init__(self, source: str, junit_path: Path | None, sarif_path: Path | None, *, as_json: bool) -> None:
        self._source = source
        self._junit_path = junit_path
        self._sarif_path = sarif_path
        self._as_json = as_json

    def __enter__(self) -> Self:
        """Create the folders of the files. Raises ConfigError."""
        result_file.prepare(self._junit_path, "--junit")
        result_file.prepare(self._sarif_path, "--sarif")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, LabError):
            self._write_error(error)
        elif isinstance(error, Interrupted) and error.report is not None:
            say("")
            self.write(error.report, self._source)
        elif isinstance(error, KeyboardInterrupt):
            self._write_interrupted(error)

    def _write_interrupted(self, error: KeyboardInterrupt) -> None:
        """Say that no check was run to its end."""
        doing = f" ({error.doing})" if isinstance(error, Interrupted) else ""
        say(f"doctor: interrupted{doing}; no check was run to its end, so there is no report")
        if self._as_json:
            write_json({"source": self._source, "error": f"interrupted{doing}", "codes": ["interrupted"]})

    def _write_error(self, error: LabError) -> None:
        """Write why there is no report, where a report was asked for as a file or as JSON."""
        if self._junit_path is not None:
            case = junit.TestCase("start", "error", str(error))
            junit.write(self._junit_path, f"doctor {self._source}", [case])
        if self._sarif_path is not None:
            sarif.write_error(self._sarif_path, str(error))
        if self._as_json:
            codes = [problem.code for problem in error.problems]
            write_json({"source": self._source, "error": str(error), "codes": codes})

    def write(self, report: Report, name: str) -> None:
        """Write the report to the files that were asked for, and to stdout. name: of what was examined."""
        if self._junit_path is not None:
            junit.write(self._junit_path, f"doctor {name}", junit.report_cases(report))
        if self._sarif_path is not None:
            sarif.write(self._sarif_path, report, name)
        if self._as_json:
            write_json({"source": name, **report.to_json()})
        else:
            doctor.show(report, name)
