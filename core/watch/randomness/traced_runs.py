"""Run a script for some steps in a child process, and read the trace that it writes."""

import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_end import why_no_update
from tui_lab.core.watch.process.tried_script import tried_environment
from tui_lab.core.watch.randomness.sources import HASHES, Source
from tui_lab.core.watch.randomness.trace import Entry
from tui_lab.util.child import kill_group
from tui_lab.util.errors import ConfigError
from tui_lab.util.json_lines import lines_of

_BEGIN = "tui_lab.core.watch.randomness.child"
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
SHOWN_LINES = 20
"""Of the output of a script that failed."""


@dataclass(frozen=True)
class TracedRun:
    """entries: in their order. sources: of random numbers, each once. problem: what could not be traced, or ""."""

    entries: Sequence[Entry]
    sources: Sequence[Source]
    problem: str = ""

    @property
    def n_steps(self) -> int:
        """The number of steps that were traced."""
        return len({entry.step for entry in self.entries if entry.kind == "update"})


class TracingStopped(Exception):
    """The run was ended by `ScriptTracer.stop`."""


class ScriptTracer:
    """Runs a script unchanged, for `n_steps` steps. It writes no checkpoint and changes no existing file."""

    def __init__(self, script: ScriptToRun, n_steps: int) -> None:
        self._script = script
        self._n_steps = n_steps
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """End the run under way, from another thread than that of `run`, and let further ones end at once."""
        self._is_stopped = True
        if self._child is not None and self._child.poll() is None:
            kill_group(self._child)

    def run(self, pins: Collection[str] = (), *, deterministic_kernels: bool = False) -> TracedRun:
        """Return the trace of one run. pins: the keys of the sources that get a seed.

        Raises ConfigError if the script makes no step, and TracingStopped after `stop`.
        """
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            lines = folder / "trace.jsonl"
            lines.touch()
            with (folder / "output.log").open("wb") as output:
                child = self._child = self._start(lines, output, pins, deterministic_kernels=deterministic_kernels)
            try:
                if self._is_stopped:
                    raise TracingStopped
                records = list(lines_of(child, lines))
            finally:
                kill_group(child)
                child.wait()
            if self._is_stopped:
                raise TracingStopped
            run = _run_of(records)
            if not run.n_steps:
                ended = next((record["ended"] for record in records if "ended" in record), None)
                raise self._no_step(child.returncode, ended, folder / "output.log")
            return run

    def _start(
        self, lines: Path, output: Any, pins: Collection[str], *, deterministic_kernels: bool
    ) -> "subprocess.Popen[bytes]":
        script = self._script
        settings = {
            "script": script.target.script,
            "folder": script.target.first_folder(script.folder),
            "out": str(lines),
            "n_steps": self._n_steps,
            "pins": sorted(pins),
            "kernels": deterministic_kernels,
        }
        variables = tried_environment(settings, _BEGIN, is_seeded=HASHES in pins) | dict(script.variables)
        if deterministic_kernels:
            variables.setdefault(_CUBLAS, ":4096:8")
        return subprocess.Popen(
            script.target.command_line,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # So that the processes it starts are killed with it.
            cwd=script.folder,
            env=variables,
        )

    def _no_step(self, code: int, ended: dict[str, Any] | None, output: Path) -> ConfigError:
        """Return why there is no step."""
        target = self._script.target
        why = why_no_update(target, "randomness", code, ended)
        last = "\n".join(output.read_text("utf-8", "replace").rstrip().splitlines()[-SHOWN_LINES:])
        has_error = ended is not None and ended["error"]
        message = f"{why}; it printed last:\n{last}" if last and not has_error else why
        return ConfigError.of("user_code", message, value=target.script)


def _run_of(records: Sequence[dict[str, Any]]) -> TracedRun:
    entries = [Entry.of(record["entry"]) for record in records if "entry" in record]
    sources = [Source.of(record["source"]) for record in records if "source" in record]
    problems = [record["problem"] for record in records if "problem" in record]
    return TracedRun(entries, list({source.key: source for source in sources}.values()), "; ".join(problems))
