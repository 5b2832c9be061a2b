"""The process of a script that is one trial of a sweep: what comes before its recording begins."""

import ast
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from tui_lab.cli import watch as recorded
from tui_lab.core.watch.process.replaced_values import ReplacedValues
from tui_lab.core.watch.process.seeding import seed_generators
from tui_lab.core.watch.unwritten.changed_files import ChangedFiles
from tui_lab.core.watch.unwritten.made_files import MadeFiles

_SIGNAL_WHEN_PARENT_ENDS = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def begin(
    loaded_before: set[str],
    watch: dict[str, Any],
    seed: int,
    values: Mapping[str, str],
    files: str,
    list_path: str,
    parent: int,
) -> None:
    """Begin to record this process, which is going to run the script. Python calls it through `startup`.

    watch: the keyword arguments for `tui_lab.cli.watch.begin`. values: what replaces values that the script assigns,
    as Python writes them. files: the folder for copies of files that it changes. list_path: the file that lists what it
    makes. parent: the id of the process that has started this one.
    """
    _end_with(parent)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, handler)  # They are ignored in the process that has started this one.
    seed_generators(seed)
    script = None if watch["is_module"] else watch["script"]
    replaced = ReplacedValues(script, {key: ast.literal_eval(text) for key, text in values.items()})
    folder = str(watch["out"])
    recording = recorded.begin(loaded_before, **watch)
    if recording is not None:
        made = MadeFiles(list_path, lambda: recording.has_trained, apart=folder)
        ChangedFiles(files, free=folder, made=made.made).install()
    replaced.install()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even if that was killed; Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SIGNAL_WHEN_PARENT_ENDS, signal.SIGTERM)
    if os.getppid() != parent:  # It ended before.
        os._exit(128 + signal.SIGTERM)
