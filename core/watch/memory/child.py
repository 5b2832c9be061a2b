"""The process of a script whose memory is measured: what happens before its first line and at its end."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core.watch.process import tried_script
from tui_lab.core.watch.process.script_end import ended_record
from tui_lab.core.watch.process.script_process import end_now, forget_own_modules
from tui_lab.core.watch.unwritten.created_files import CreatedFiles, created_files
from tui_lab.util.json_lines import JsonLines

if TYPE_CHECKING:
    from tui_lab.core.watch.memory.memory_recorder import MemoryRecorder
    from tui_lab.core.watch.memory.step_memory import StepMemory

LIST_OF_CREATED = "created.jsonl"


class Child:
    """Begins when the script imports torch, which must not be imported on its behalf.

    The lines: {"process": bytes} once torch is imported, {"step": …} for each step, {"whole": …} after the last one,
    {"incomplete_step": …}, the account of a step in which memory ran out; {"ended": …} if the script ends by itself.
    """

    def __init__(self, lines: JsonLines, script: str, n_steps: int) -> None:
        self._lines = lines
        self._name = script
        self._n_steps = n_steps
        self._recorder: MemoryRecorder | None = None
        self._folder = os.getcwd()  # The script may change it.
        apart = os.path.dirname(lines.path)
        self._list_of_created = os.path.join(apart, LIST_OF_CREATED)
        self.created = CreatedFiles(self._list_of_created, lambda: True, apart)

    def begin(self) -> None:
        """Follow the script from now on: torch has been imported."""
        import psutil

        from tui_lab.core.watch.memory.memory_recorder import MemoryRecorder

        self._lines.write(process=psutil.Process().memory_info().rss)
        self._recorder = MemoryRecorder(self._step_ended)
        self._recorder.install()

    def end(self, error: BaseException | None) -> None:
        """The script has ended, maybe by an error that nothing caught."""
        if self._recorder is not None:
            incomplete_step = None if error is None else self._recorder.failed_account(error)
            if incomplete_step is not None:
                self._lines.write(incomplete_step=asdict(incomplete_step))
            self._write_all(self._recorder)
            self._recorder.finish()
        self._lines.write(ended=ended_record(error, self._name))

    def _step_ended(self, step: "StepMemory") -> None:
        self._lines.write(step=asdict(step))
        if step.n >= self._n_steps and self._recorder is not None:
            self._write_all(self._recorder)
            end_now()

    def _write_all(self, recorder: "MemoryRecorder") -> None:
        from tui_lab.core.training.memory_measure import peak_resident

        growth = recorder.growth.growth()
        self._lines.write(
            whole={
                "peak": recorder.peak or peak_resident(),
                "capacity": recorder.capacity,
                "growth": None if growth is None else asdict(growth),
                "errors": recorder.errors,
                "created": created_files(Path(self._list_of_created), Path(self._folder)),
            }
        )


def begin(loaded_before: set[str], script: str, folder: str, out: str, seed: int, n_steps: int) -> None:
    """Prepare this process, which is going to run the script. Python calls it through `startup`.

    folder: the one that Python puts first on sys.path for this script. out: the file for the lines.
    """
    lines = JsonLines(out)
    child = Child(lines, script, n_steps)
    tried_script.prepare(tried_script.files_beside(lines, child.created.add), seed, child.begin, child.end)
    forget_own_modules(loaded_before, folder)
