"""The process of a script that is examined: what happens before its first line and after its last update.

Python itself runs the script, as for `tui-lab watch` (see core.watch.script_process); torch is not imported before
the script does it.
"""

import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from tui_lab.core.doctor.findings import SO_FAR
from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.script.pretrained import PretrainedModels
from tui_lab.core.user_code.missing_resource import missing_resource
from tui_lab.core.user_code.user_files import is_own_code
from tui_lab.core.watch.process import tried_script
from tui_lab.core.watch.process.script_end import ended_record, error_place
from tui_lab.core.watch.process.script_process import end_now, forget_own_modules
from tui_lab.util.json_lines import JsonLines

if TYPE_CHECKING:
    from tui_lab.core.doctor.findings import Finding, Report
    from tui_lab.core.doctor.script.examination import Examination

SEED = 0
"""For every generator, before the script's first line, so that the same command gives the same verdict."""


class Child:
    """Prepares the process, and examines the script at its last update or at its end."""

    def __init__(
        self, lines: JsonLines, script: str, updates: tuple[int, int], seconds: float, deadline: float
    ) -> None:
        self._lines = lines
        self._script = script
        self._updates = updates
        self._seconds = seconds
        self._deadline = deadline
        self._files = tried_script.files_beside(lines)
        self._pretrained = PretrainedModels()
        self._examination: Examination | None = None

    def prepare(self) -> None:
        """Seed the generators, and begin to record when the script imports torch."""
        tried_script.prepare(self._files, SEED, self._begin, self._end)
        self._pretrained.watch()
        sys.excepthook = _print_error
        warnings.showwarning = _warnings_of_user_code(warnings.showwarning)

    def _begin(self) -> None:
        """Record from now on: torch has been imported."""
        from tui_lab.core.doctor.script.examination import Examination

        self._examination = Examination(
            self._script,
            self._updates,
            self._seconds,
            self._deadline,
            self._files.names,
            self._progress,
            self._pretrained,
        )
        self._examination.on_complete = self._complete
        self._examination.on_result = lambda report: self._lines.write(**{SO_FAR: report.to_json()})
        self._examination.begin()

    def _progress(self, doing: str) -> None:
        self._lines.write(check=doing)

    def _complete(self) -> None:
        """Examine what was recorded and end the process at once: no cleanup of the script may write anything."""
        self._examine("", has_ended=False)
        end_now()

    def _end(self, error: BaseException | None) -> None:
        """The script has ended by itself, or by an error that nothing caught."""
        place = "" if error is None else error_place(error, self._script)
        if error is not None and (cause := self._cause(error)) is not None:
            self._report_cause(cause, place)
            end_now()
        if self._examination is None or self._examination.is_empty:
            ended = ended_record(error, self._script)
            self._lines.write(no_steps={**ended, "candidates": candidates(), "by_hand": False})
            return  # Python ends with the script's own exit code.
        self._examine(place, has_ended=error is None)
        end_now()

    def _cause(self, error: BaseException) -> "Finding | None":
        """Return what caused an error of a script that trains; None if it is not known."""
        if self._examination is None:
            return None
        from tui_lab.core.doctor.script.error_causes import cause_of

        try:
            return cause_of(error)
        except Exception:  # What user code keeps in its variables may raise when it is looked at.
            return None

    def _report_cause(self, cause: "Finding", place: str) -> None:
        """Report what ended the script, after what the examination of its updates finds, if it made some."""
        from tui_lab.core.doctor.findings import Report

        assert self._examination is not None
        report = Report(not_examined=(f"what follows the error ({place})",))
        if self._examination.n_updates:
            report = self._report(place, has_ended=False)
        codes = {finding.code for finding in report.findings}
        if cause.code not in codes:
            report = replace(report, findings=(cause, *report.findings))
        self._lines.write(report=report.to_json(), error=place)

    def _examine(self, error: str, *, has_ended: bool) -> None:
        """Write the report. error: the one that ended the script, and its place."""
        assert self._examination is not None
        if not self._examination.has_optimizer and not self._examination.moves_by_hand:
            self._lines.write(no_steps={"error": error, "lacks": None, "candidates": [], "by_hand": True})
            return
        self._lines.write(report=self._report(error, has_ended=has_ended).to_json(), error=error)

    def _report(self, error: str, *, has_ended: bool) -> "Report":
        """Examine what was recorded."""
        assert self._examination is not None
        # The checks call the model in ways in which the script does not: what is warned of then is not its fault.
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            return self._examination.report(error, has_ended=has_ended)
        except Exception as failure:
            from tui_lab.core.doctor.findings import Report, crashed

            traceback.print_exc()
            return Report(crashed=(crashed("the script", failure),))


def begin(
    loaded_before: set[str],
    script: str,
    folder: str,
    out: str,
    updates: int,
    max_updates: int,
    seconds: float,
    timeout: float,
) -> None:
    """Prepare this process, which is going to run the script. Python calls it through `startup`.

    folder: the folder that Python puts first on sys.path for this script.
    """
    child = Child(JsonLines(out), script, (updates, max_updates), seconds, time.monotonic() + timeout)
    child.prepare()
    forget_own_modules(loaded_before, folder)


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, unless the line of the parent process says all of it."""
    if missing_resource(error) is not None or isinstance(error, SyntaxError):
        return
    shown = traceback.TracebackException(kind, error, trace)
    link: traceback.TracebackException | None = shown
    while link is not None:
        # Of calls that the doctor has replaced, such as that of a module, the user needs no line.
        link.stack = traceback.StackSummary.from_list(
            [frame for frame in link.stack if not is_own_code(frame.filename)]
        )
        link = link.__cause__ or link.__context__
    sys.stderr.write("".join(shown.format()))


def _warnings_of_user_code(show: Callable[..., None]) -> Callable[..., None]:
    """Return a `showwarning` that shows a warning of a call that the doctor has replaced at the user's line."""

    def show_at_users_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if is_own_code(filename):
            filename, _, number = user_line().rpartition(":")
            if not filename:
                return
            lineno = int(number)
        show(message, category, filename, lineno, file, line)

    return show_at_users_line


def candidates() -> list[str]:
    """Return names of the script that `tui-lab doctor FILE.py:NAME` may take: models, and functions that return one."""
    torch = sys.modules.get("torch")
    main = vars(sys.modules["__main__"])
    if torch is None:
        return []
    module: Any = torch.nn.Module
    names: list[str] = []
    for name, value in main.items():
        is_of_script = getattr(value, "__module__", "") == "__main__"
        is_model = isinstance(value, module) or (isinstance(value, type) and issubclass(value, module) and is_of_script)
        is_case = type(value).__name__ == "Case"
        if not name.startswith("_") and (is_model or is_case or (_is_function(value) and is_of_script)):
            names.append(name)
    return names


def _is_function(value: Any) -> bool:
    code: Callable[..., Any] | None = getattr(value, "__code__", None)
    return code is not None
