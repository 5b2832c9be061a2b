"""A run of a script that is only tried out, as its parent process sees it: the lines that it writes, and its end."""

import os
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_end import why_no_update
from tui_lab.core.watch.process.tried_script import tried_environment
from tui_lab.core.watch.unwritten.created_files import move_created_files
from tui_lab.util.child import kill_group
from tui_lab.util.errors import ConfigError
from tui_lab.util.json_lines import lines_of

SHOWN_LINES = 20
"""Of the output of a script that failed."""
SHOWN_BYTES = 2**16
"""In which these lines are, at most."""
LIST_OF_MADE = "made.jsonl"
"""Beside the file of the lines; a process that lists there what it makes leaves nothing in the folder of the script."""


class TriedRun:
    """Runs a script once, in a child process that is killed when nobody reads its lines any more.

    begin: the module whose function `begin` prepares that process. settings: its further arguments, besides `script`,
    `folder` and `out`. variables: further ones of the environment. is_seeded: as for `tried_environment`.
    """

    def __init__(
        self,
        script: ScriptToRun,
        begin: str,
        settings: Mapping[str, Any],
        variables: Mapping[str, str] | None = None,
        *,
        is_seeded: bool = True,
    ) -> None:
        self.ended: dict[str, Any] | None = None
        """What the process wrote at its end, as `ended_record` returned it; None if it wrote nothing."""
        self.code = 0
        """Of the process that has ended, negative for a signal."""
        self.is_stopped = False
        self._script = script
        self._begin = begin
        self._settings = settings
        self._variables = variables or {}
        self._is_seeded = is_seeded
        self._child: subprocess.Popen[bytes] | None = None
        self._last_output = ""

    def records(self) -> Generator[dict[str, Any]]:
        """Run the script, and yield what its process writes, as it comes."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            script_folder = self._script.folder or os.getcwd()
            lines = Path(name) / "lines.jsonl"
            lines.touch()
            output = Path(name) / "output.log"
            child = self._child = self._start(lines, output)
            try:
                if self.is_stopped:
                    return
                for record in lines_of(child, lines):
                    self.ended = record.get("ended", self.ended)
                    yield record
            finally:
                kill_group(child)
                self.code = child.wait()
                move_created_files(Path(name) / LIST_OF_MADE, Path(script_folder), Path(name) / "made")
                self._last_output = _last_lines(output)

    def stop(self) -> None:
        """End the run, from another thread than that which reads its lines."""
        self.is_stopped = True
        if self._child is not None and self._child.poll() is None:
            kill_group(self._child)

    def no_step(self, command: str) -> ConfigError:
        """Return why the script, which has ended, has made no step. command: of tui-lab."""
        target = self._script.target
        why = why_no_update(target, command, self.code, self.ended)
        has_error = self.ended is not None and self.ended["error"]
        message = f"{why}; it printed last:\n{self._last_output}" if self._last_output and not has_error else why
        return ConfigError.of("user_code", message, value=target.script)

    def _start(self, lines: Path, output: Path) -> "subprocess.Popen[bytes]":
        script = self._script
        settings = {
            "script": script.target.script,
            "folder": script.target.first_folder(script.folder),
            "out": str(lines),
            **self._settings,
        }
        variables = tried_environment(settings, self._begin, is_seeded=self._is_seeded)
        with output.open("wb") as log:
            return subprocess.Popen(
                script.target.command_line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # So that the processes it starts are killed with it.
                cwd=script.folder,
                env={**variables, **script.variables, **self._variables},
            )


def _last_lines(output: Path) -> str:
    """Return the end of a file that may be long."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - SHOWN_BYTES))
        text = file.read().decode("utf-8", "replace")
    return "\n".join(text.rstrip().splitlines()[-SHOWN_LINES:])
