"""The process of a script that is only tried out: by the doctor, with other learning rates, or to compare two runs.

It changes none of the user's existing files, and it is not one of their runs.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

from tui_lab.core.watch.process import script_process
from tui_lab.core.watch.process.parent_process import end_with_parent
from tui_lab.core.watch.process.script_process import at_end, environment, when_imported
from tui_lab.core.watch.process.seeding import seed_generators
from tui_lab.core.watch.unwritten.unwritten_files import UnwrittenFiles
from tui_lab.util.json_lines import JsonLines


def files_beside(lines: JsonLines, made: Callable[[str], None] = lambda path: None) -> UnwrittenFiles:
    """Return what keeps the user's files; copies are beside the file of the lines. made: as for `UnwrittenFiles`."""
    return UnwrittenFiles(os.path.join(os.path.dirname(lines.path), "copies"), made)


def tried_environment(settings: dict[str, Any], begin: str, *, is_seeded: bool = True) -> dict[str, str]:
    """Return the environment for the process. settings, begin: as in `script_process.environment`.

    is_seeded: whether the order of sets of strings, which is that of their hashes, is the same in every process.
    """
    variables = environment(settings, begin)
    if is_seeded:  # A vocabulary made from a set would differ in every run.
        variables.setdefault("PYTHONHASHSEED", "0")
    variables.setdefault("WANDB_MODE", "disabled")
    return variables


def prepare(
    files: UnwrittenFiles, seed: int | None, begin: Callable[[], None], end: Callable[[BaseException | None], None]
) -> None:
    """Prepare this process, which is going to run the script.

    seed: of all generators; None: they stay as they are. begin: called when the script has imported torch. end: called
    at its end, with the exception that ended it. Neither is called in a forked process.
    """
    pid = os.getpid()

    def begin_here() -> None:
        if os.getpid() == pid:
            begin()

    script_process.is_examined = True
    end_with_parent(signal.SIGKILL)  # It would train to its end if the parent was killed.
    if seed is not None:
        seed_generators(seed)
    files.install()
    when_imported("torch", begin_here)
    at_end(end)
