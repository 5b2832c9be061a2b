"""The process of a script that is traced: what happens before its first line and at its end."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core.watch.process import tried_script
from tui_lab.core.watch.process.script_end import ended_record
from tui_lab.core.watch.process.script_process import end_now, forget_own_modules
from tui_lab.core.watch.process.tried_run import LIST_OF_MADE
from tui_lab.core.watch.randomness.generators import Generators
from tui_lab.core.watch.randomness.trace import Entry
from tui_lab.core.watch.unwritten.created_files import CreatedFiles
from tui_lab.util.json_lines import JsonLines, read_lines

if TYPE_CHECKING:
    from tui_lab.core.watch.randomness.traced_script import TracedScript


class Child:
    """Traces from the script's import of torch on, which must not be imported on its behalf."""

    def __init__(self, lines: JsonLines, script: str, n_steps: int, pins: Mapping[str, int], kernels: bool) -> None:
        """pins: as for `Generators`. kernels: whether torch is to use only deterministic ones."""
        self._lines = lines
        self._script = script
        self._n_steps = n_steps
        self._kernels = kernels
        self._generators = Generators(pins, lambda source: lines.write(source=source.to_json()))
        self._folder = os.getcwd()  # The script may change it.
        folder = os.path.dirname(lines.path)
        self._list_of_made = os.path.join(folder, LIST_OF_MADE)
        created = CreatedFiles(self._list_of_made, lambda: True, folder)
        self._files = tried_script.files_beside(lines, created.add)
        self._has_updated = False
        self._traced: TracedScript | None = None

    def prepare(self) -> None:
        """Do what comes before the first line of the script."""
        self._generators.install()
        tried_script.prepare(self._files, None, self._begin, self._end)

    def _begin(self) -> None:
        """Trace from now on: torch has been imported."""
        import torch

        from tui_lab.core.watch.randomness.traced_script import TracedScript

        if self._kernels:
            torch.use_deterministic_algorithms(True, warn_only=True)
        self._traced = TracedScript(
            self._n_steps,
            Path(self._lines.path).parent,
            self._add,
            lambda problem: self._lines.write(problem=problem),
            self._complete,
        )

    def _add(self, entry: Entry) -> None:
        if entry.kind == "update" and not self._has_updated:
            self._has_updated = True
            changed = [name for name in self._files.names if os.path.isfile(name)]
            new = [name for name in self._files.names if name not in changed]
            self._lines.write(changed=list(map(os.path.relpath, changed)))
            self._lines.write(written=[*map(os.path.relpath, new), *self._made_files()])
        self._lines.write(entry=entry.to_json())

    def _made_files(self) -> list[str]:
        """Return the files that the script has made in its folder."""
        if not os.path.exists(self._list_of_made):
            return []
        made = [str(record["path"]) for record in read_lines(Path(self._list_of_made))]
        return [path for path in made if os.path.isfile(os.path.join(self._folder, path))]

    def _complete(self) -> None:
        """End the process at once: no cleanup of the script may write anything."""
        self._write_sources()
        end_now()

    def _end(self, error: BaseException | None) -> None:
        """The script has ended, maybe by an error that nothing caught."""
        if self._traced is not None:
            self._traced.finish()
        self._write_sources()
        self._lines.write(ended=ended_record(error, self._script))

    def _write_sources(self) -> None:
        for source in self._generators.sources():
            self._lines.write(source=source.to_json())


def begin(
    loaded_before: set[str], script: str, folder: str, out: str, n_steps: int, pins: dict[str, int], kernels: bool
) -> None:
    """Prepare this process, which is going to run the script. Python calls it through `startup`.

    folder: the one that Python puts first on sys.path for this script. out: the file for the lines.
    """
    Child(JsonLines(out), script, n_steps, pins, kernels).prepare()
    forget_own_modules(loaded_before, folder)
