"""What a shell offers after Tab: presets, config files, settings with their values, runs. Needs no torch."""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

VARIABLE = "_TUI_LAB_COMPLETE"
"""Set by the shell's script while it completes."""
Items = list[tuple[str, str]]
"""What to offer, each with a word of help."""


def source(incomplete: str) -> Items:
    """A preset or a TOML file."""
    return [*_presets(incomplete), *_paths(incomplete, _is_toml)]


def source_or_run(incomplete: str) -> Items:
    return [*source(incomplete), *run(incomplete)]


def run(incomplete: str) -> Items:
    """A run of the runs folder, the newest first, or any run's folder."""
    from tui_lab.core.runs.folder import list_runs

    runs = [(run.name, str(run.path)) for run in reversed(list_runs())]
    return [*_beginning(incomplete, runs), *_paths(incomplete, _is_run)]


def setting(incomplete: str) -> Items:
    """KEY=, and once the key is known KEY=VALUE: every value of a choice, else the default, to be changed."""
    from tui_lab.core.config import settings
    from tui_lab.core.config.schema import Config

    key, equals, _ = incomplete.partition("=")
    fields = settings.fields()
    keys = [key] if equals else [name for name in fields if name.startswith(key)]
    if len(keys) != 1 or keys[0] not in fields:
        return [(f"{name}=", fields[name].title or "") for name in keys if name in fields]
    name = keys[0]
    kind, title = fields[name].annotation, fields[name].title or ""
    if get_origin(kind) is Literal:
        values = [str(choice) for choice in get_args(kind)]
    elif isinstance(default := settings.get(Config(), name), int | float | str):
        values = [str(default)] if default != "" else []
    else:
        values = []
    # With KEY= beside a single value the shell completes no further than to the equals sign, so that one may type.
    alone = [] if len(values) > 1 else [(f"{name}=", title)]
    return _beginning(incomplete, [*alone, *((f"{name}={value}", title) for value in values)])


def requirement(incomplete: str) -> Items:
    from tui_lab.core.runs.summary import METRICS

    return _beginning(incomplete, [(f"{metric}{sign}", "") for metric in METRICS for sign in ("<=", ">=")])


def _presets(incomplete: str) -> Iterator[tuple[str, str]]:
    from tui_lab.core.config import settings

    known = settings.presets()
    yield from _beginning(incomplete, [(name, preset.header[0]) for name, preset in known.items()])


def _beginning(incomplete: str, items: Iterable[tuple[str, str]]) -> Items:
    return [(value, help) for value, help in items if value.startswith(incomplete)]


def _paths(incomplete: str, wanted: Callable[[Path], bool]) -> Iterator[tuple[str, str]]:
    """Folders on the way, with a slash, and what is wanted."""
    folder, _, start = incomplete.rpartition("/")
    where = Path(folder + "/" if incomplete.startswith("/") else folder or ".")
    try:
        found = sorted(path for path in where.iterdir() if path.name.startswith(start))
    except OSError:
        return
    for path in found:
        shown = f"{folder}/{path.name}" if "/" in incomplete else path.name
        if wanted(path):
            yield shown, ""
        elif path.is_dir() and (start or not path.name.startswith(".")) and folder + start:
            yield shown + "/", ""


def _is_toml(path: Path) -> bool:
    return path.suffix == ".toml" and path.is_file()


def _is_run(path: Path) -> bool:
    return (path / "config.toml").is_file()


@contextmanager
def bash_words() -> Iterator[None]:
    """Undo what bash does to KEY=VALUE: it hands over three words, KEY, = and VALUE, and wants back the last alone.

    Changes COMP_WORDS and COMP_CWORD in the environment, where typer reads them. Does nothing for other shells, nor
    when no shell is completing.
    """
    current = os.environ.get("COMP_CWORD", "")
    if os.environ.get(VARIABLE) != "complete_bash" or not current.isdigit():
        yield
        return
    words = joined(os.environ.get("COMP_WORDS", "").split(), int(current))
    os.environ |= {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    offered = io.StringIO()
    try:
        with redirect_stdout(offered):
            yield
    finally:
        lines = offered.getvalue().splitlines()
        sys.stdout.write("\n".join(line.partition("=")[2] if "=" in words[-1] else line for line in lines) + "\n")


def joined(words: Sequence[str], current: int) -> list[str]:
    """The words up to the one that is completed, KEY = VALUE as one."""
    # An empty last word is lost where the shell writes its words in one line.
    before = [*words[: current + 1], *[""] * (current + 1 - len(words))]
    found: list[str] = []
    for word in before:
        if found and (word == "=" or found[-1].endswith("=")):
            found[-1] += word
        else:
            found.append(word)
    return found


def without_errors(offer: Callable[[str], Items]) -> Any:
    """`offer` as typer calls it, never raising: a broken config must not write into the person's prompt."""

    def complete(incomplete: str) -> Items:
        try:
            return offer(incomplete)
        except Exception:
            return []

    return complete
