"""The process of a script that is one trial of a sweep: what comes before its recording begins."""

import ast
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tui_lab.cli import watch_process as recorded
from tui_lab.core.watch.process.parent_process import end_with_parent
from tui_lab.core.watch.process.replaced_modules import ReplacedModules
from tui_lab.core.watch.process.replaced_values import ReplacedValues
from tui_lab.core.watch.process.seeding import seed_generators
from tui_lab.core.watch.process.unreplaced import Unreplaced
from tui_lab.core.watch.unwritten.changed_files import ChangedFiles
from tui_lab.core.watch.unwritten.created_files import CreatedFiles


def begin(
    loaded_before: set[str],
    watch: dict[str, Any],
    seed: int,
    values: Sequence[dict[str, str]],
    files: str,
    list_path: str,
    unreplaced_path: str,
    parent: int,
) -> None:
    """Begin to record this process, which is going to run the script. Python calls it through `startup`.

    watch: the keyword arguments for `watch_process.begin`. values: what replaces values that the script and its modules
    assign: `name`, `file` ("" for the script), `key` in it, and `value` as Python writes it. files: the folder for
    copies of files that it changes. list_path: the file that lists what it makes. unreplaced_path: the file that lists
    values which are not replaced yet. parent: the id of the process that has started this one.
    """
    end_with_parent(signal.SIGTERM, parent)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, handler)  # They are ignored in the process that has started this one.
    seed_generators(seed)
    folder = str(watch["out"])
    recording = recorded.begin(loaded_before, **watch)
    if recording is not None:
        recording.settings = _scalars(values)
        created = CreatedFiles(list_path, lambda: recording.has_trained, apart=folder)
        ChangedFiles(files, free=folder, made=created.add).install()
    _replace(values, Unreplaced(Path(unreplaced_path), [each["name"] for each in values]), watch)


def _replace(values: Sequence[dict[str, str]], unreplaced: Unreplaced, watch: dict[str, Any]) -> None:
    """Let other values replace those that the script and its modules are going to assign."""
    names = {(each["file"], each["key"]): each["name"] for each in values}
    by_file: dict[str, dict[str, Any]] = {}
    for each in values:
        by_file.setdefault(each["file"], {})[each["key"]] = ast.literal_eval(each["value"])
    of_script = by_file.pop("", {})
    ReplacedModules(by_file, lambda file, key: unreplaced.replaced(names[file, key])).install()
    script = None if watch["is_module"] else watch["script"]
    ReplacedValues(script, of_script, lambda key: unreplaced.replaced(names["", key])).install()


def _scalars(values: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return the values that a config can have as settings, by name."""
    settings = {each["name"]: ast.literal_eval(each["value"]) for each in values}
    return {name: value for name, value in settings.items() if isinstance(value, bool | int | float | str)}
