"""Run a script for some steps in a child process, and read the trace that it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_end import exit_text
from tui_lab.core.watch.process.tried_run import TriedRun
from tui_lab.core.watch.randomness.sources import HASH_SEED, HASHES, ScriptSource
from tui_lab.core.watch.randomness.trace import Entry

_BEGIN = "tui_lab.core.watch.randomness.child"
_FOR_CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it, torch refuses matrix products of deterministic kernels on CUDA."""


@dataclass(frozen=True)
class TracedRun:
    """entries: in their order. sources: of random numbers, each once. problem: what could not be traced, or "".

    error: that ended the script, or "". written: files that it made before its first update, which are not kept.
    changed: files that were there before it, which it changed or replaced until then; they are as they were.
    """

    entries: Sequence[Entry]
    sources: Sequence[ScriptSource]
    problem: str = ""
    error: str = ""
    written: Sequence[str] = ()
    changed: Sequence[str] = ()

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
        self._run: TriedRun | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """End the run under way, from another thread than that of `run`, and let no further one begin."""
        self._is_stopped = True
        if self._run is not None:
            self._run.stop()

    def run(self, pins: Mapping[str, int] | None = None, *, deterministic_kernels: bool = False) -> TracedRun:
        """Return the trace of one run. pins: the keys of the sources that get a seed, each with it.

        Raises ConfigError if the script makes no step, and TracingStopped after `stop`.
        """
        settings = {"n_steps": self._n_steps, "pins": dict(pins or {}), "kernels": deterministic_kernels}
        variables = _FOR_CUBLAS if deterministic_kernels else {}
        if pins and HASHES in pins:
            variables = {**variables, HASH_SEED: str(pins[HASHES])}
        run = self._run = TriedRun(self._script, _BEGIN, settings, variables, is_seeded=False)
        records = [] if self._is_stopped else list(run.records())
        if self._is_stopped:
            raise TracingStopped
        traced = _run_of(records, run.ended, run.code)
        if not traced.n_steps:
            raise run.no_step("randomness")
        return traced


def _run_of(records: Sequence[dict[str, Any]], ended: Mapping[str, Any] | None, code: int) -> TracedRun:
    entries = [Entry.of(record["entry"]) for record in records if "entry" in record]
    sources = [ScriptSource.of(record["source"]) for record in records if "source" in record]
    problems = [record["problem"] for record in records if "problem" in record]
    error = str(ended["error"]) if ended is not None else ""
    if code and not error:
        error = exit_text(code)
    return TracedRun(
        entries,
        list({source.key: source for source in sources}.values()),
        "; ".join(problems),
        error,
        _names(records, "written"),
        _names(records, "changed"),
    )


def _names(records: Sequence[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.get(key, ())))
