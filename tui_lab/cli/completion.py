"""Shell completion: presets, config files, settings with their values, runs. Does not import torch."""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

VARIABLE = "_TUI_LAB_COMPLETE"
"""Set by the shell's script while it completes."""
Items = list[tuple[str, str]]
"""Completions, each with its help."""


def source(incomplete: str) -> Items:
    """Return presets and TOML files."""
    return [*_presets(incomplete), *_paths(incomplete, _is_toml)]


def source_or_run(incomplete: str) -> Items:
    """Return presets, TOML files and runs."""
    return [*source(incomplete), *run(incomplete)]


def script(incomplete: str) -> Items:
    """Return Python files."""
    return list(_paths(incomplete, _is_python))


def finding_code(incomplete: str) -> Items:
    """Return the codes of the doctor's findings."""
    from tui_lab.core.doctor.catalog import CATALOG

    return _matching(incomplete, [(entry.code, entry.meaning) for entry in CATALOG.values()])


def lesson(incomplete: str) -> Items:
    """Return the lessons of tui-lab, and folders."""
    from tui_lab.core.lessons.load import BUILTIN, lesson_folders

    names = [(folder.name, "") for folder in lesson_folders(BUILTIN)]
    return [*_matching(incomplete, names), *_paths(incomplete, _is_lesson)]


def run(incomplete: str) -> Items:
    """Return the runs of the runs folder, newest first, and paths of run folders."""
    from tui_lab.core.runs.folder import list_runs

    runs = [(run.name, str(run.path)) for run in reversed(list_runs())]
    return [*_matching(incomplete, runs), *_paths(incomplete, _is_run)]


def setting(incomplete: str) -> Items:
    """Return keys as KEY=; for a whole key, KEY=VALUE with every value of a choice, or the default to edit."""
    from tui_lab.core.config import settings

    key, equals, _ = incomplete.partition("=")
    fields = settings.fields()
    keys = [key] if equals else [name for name in fields if name.startswith(key)]
    if len(keys) != 1 or keys[0] not in fields:
        return [(f"{name}=", fields[name].title or "") for name in keys if name in fields]
    [key] = keys
    title = fields[key].title or ""
    values = _values(key)
    # A single completion would be inserted whole. With KEY= next to it, the shell stops at the equals sign.
    bare_key = [] if len(values) > 1 else [(f"{key}=", title)]
    return _matching(incomplete, [*bare_key, *((f"{key}={value}", title) for value in values)])


def _values(key: str) -> list[str]:
    from tui_lab.core.config import settings
    from tui_lab.core.config.schema import Config

    if choices := settings.choices(key):
        return choices
    default = settings.get(Config(), key)
    return [str(default)] if isinstance(default, int | float | str) and default != "" else []


def requirement(incomplete: str) -> Items:
    """Return metrics with a comparison."""
    from tui_lab.core.runs.summary import METRICS

    return _matching(incomplete, [(f"{metric}{sign}", "") for metric in METRICS for sign in ("<=", ">=")])


def _presets(incomplete: str) -> Items:
    from tui_lab.core.config import settings

    return _matching(incomplete, [(name, preset.header[0]) for name, preset in settings.presets().items()])


def _matching(incomplete: str, items: Iterable[tuple[str, str]]) -> Items:
    return [(value, help) for value, help in items if value.startswith(incomplete)]


def _paths(incomplete: str, is_wanted: Callable[[Path], bool]) -> Iterator[tuple[str, str]]:
    """Yield the wanted paths, and folders with a slash."""
    folder, _, start = incomplete.rpartition("/")
    parent = Path(folder + "/" if incomplete.startswith("/") else folder or ".")
    try:
        paths = sorted(path for path in parent.iterdir() if path.name.startswith(start))
    except OSError:
        return
    for path in paths:
        text = f"{folder}/{path.name}" if "/" in incomplete else path.name
        if is_wanted(path):
            yield text, ""
        elif path.is_dir() and (start or not path.name.startswith(".")) and folder + start:
            yield text + "/", ""


def _is_toml(path: Path) -> bool:
    return path.suffix == ".toml" and path.is_file()


def _is_python(path: Path) -> bool:
    return path.suffix == ".py" and path.is_file()


def _is_lesson(path: Path) -> bool:
    from tui_lab.core.lessons.lesson_file import LESSON

    return (path / LESSON).is_file()


def _is_run(path: Path) -> bool:
    return (path / "config.toml").is_file()


@contextmanager
def bash_words() -> Iterator[None]:
    """Undo how bash splits KEY=VALUE: it passes KEY, = and VALUE as three words, and expects only VALUE back.

    Changes COMP_WORDS and COMP_CWORD in the environment, where typer reads them. Does nothing for other shells, or
    when no shell is completing.
    """
    current = os.environ.get("COMP_CWORD", "")
    if os.environ.get(VARIABLE) != "complete_bash" or not current.isdigit():
        yield
        return
    words = join_settings(os.environ.get("COMP_WORDS", "").split(), int(current))
    os.environ |= {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    output = io.StringIO()
    try:
        with redirect_stdout(output):
            yield
    finally:
        lines = output.getvalue().splitlines()
        sys.stdout.write("\n".join(line.partition("=")[2] if "=" in words[-1] else line for line in lines) + "\n")


def join_settings(words: Sequence[str], current: int) -> list[str]:
    """Return the words up to number `current`, with KEY = VALUE joined into one."""
    # The shell passes the words in one line, where an empty last word is lost.
    padded = [*words[: current + 1], *[""] * (current + 1 - len(words))]
    joined: list[str] = []
    for word in padded:
        if joined and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def without_errors(complete: Callable[[str], Items]) -> Any:
    """Return `complete` for typer; an exception gives no completions, so that no traceback reaches the prompt."""

    def call(incomplete: str) -> Items:
        try:
            return complete(incomplete)
        except Exception:
            return []

    return call
