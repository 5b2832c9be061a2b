"""The user's keymap: keys of the user's choice instead of the default ones, by binding.

A binding's id is the place where it applies and its name there, as in `lab.pause`. Textual puts the chosen keys in
(`App.set_keymap`); this module reads and checks them.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textual.app import App
from textual.binding import Binding, BindingType

from tui_lab.app.actions import COMMANDS, Command, Needs, key_of
from tui_lab.app.key_names import KEY_NAMES, key_label, normalized, shown_key
from tui_lab.util import files
from tui_lab.util.cache import config_folder
from tui_lab.util.errors import ConfigError, Problem, nearest

FILE_NAME = "keymap.toml"
LARGEST_FILE = 2**20
"""Bytes, at most."""
LAB = "lab"
RESERVED = ("ctrl+p", "ctrl+q")
"""The palette and the way out come before any other binding."""
EXCLUDE_EACH_OTHER = ({"live", "replay"}, {"live", "resumable"})
"""Needs of two commands of which only one ever applies, so that they may share a key."""


def no_key(command: Command) -> str:
    """Return a name that no key has, for a binding whose keys only the user's keymap may set."""
    return f"no_key_{command.id}"


def named(place: str, *bindings: Binding) -> list[BindingType]:
    """Return the bindings with ids, `place.what_it_does`, so that the user can choose other keys for them."""
    return [
        replace(binding, id=f"{place}.{_slug(binding.description)}") if binding.description else binding
        for binding in bindings
    ]


def _slug(description: str) -> str:
    return re.sub(r"\W+", "_", description.lower()).strip("_")


def keymap_of(app: App[Any]) -> "Keymap":
    """Return the keymap of the app; the default one for an app that has none."""
    return getattr(app, "keymap", Keymap())


@dataclass(frozen=True)
class Bindable:
    """What keys can be chosen for. keys: the default ones."""

    id: str
    keys: tuple[str, ...]
    about: str
    needs: Needs = "nothing"

    @property
    def place(self) -> str:
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]


def bindables() -> dict[str, Bindable]:
    """Return everything that keys can be chosen for, by id, in the order of the lab's commands, panes and screens."""
    every = [Bindable(f"{LAB}.{c.id}", _split(c.keys), f"{c.title}: {c.help}", c.needs) for c in COMMANDS]
    for bindings in _bindings_of_places():
        by_id: dict[str, Bindable] = {}
        for binding in bindings:
            if isinstance(binding, Binding) and binding.id is not None:
                keys = (*by_id[binding.id].keys, *_split(binding.key)) if binding.id in by_id else _split(binding.key)
                by_id[binding.id] = Bindable(binding.id, keys, binding.description)
        every += by_id.values()
    return {each.id: each for each in every}


def _bindings_of_places() -> Iterable[Sequence[BindingType]]:
    # Imported late: these modules import this one.
    from tui_lab.app.learn.list_screen import LearnScreen
    from tui_lab.app.learn.screen import LessonScreen
    from tui_lab.app.learn.strip import LessonStrip
    from tui_lab.app.panes.batch import BatchPane
    from tui_lab.app.panes.cells import Cells
    from tui_lab.app.panes.config import ConfigPane
    from tui_lab.app.panes.doctor import DoctorPane
    from tui_lab.app.panes.events import EventsPane
    from tui_lab.app.panes.generation import GenerationPane
    from tui_lab.app.panes.loss import LossPane
    from tui_lab.app.screens.attention import AttentionScreen
    from tui_lab.app.screens.examples import ExamplesScreen
    from tui_lab.app.screens.home import Home
    from tui_lab.app.screens.inside.screen import InsideScreen
    from tui_lab.app.screens.rates import RateScreen
    from tui_lab.app.screens.runs.screen import RunsScreen
    from tui_lab.app.screens.step_rows import StepRowsScreen

    panes = (ConfigPane, LossPane, BatchPane, Cells, GenerationPane, EventsPane, DoctorPane)
    screens = (Home, RunsScreen, AttentionScreen, ExamplesScreen, InsideScreen, RateScreen, StepRowsScreen)
    for part in (*panes, *screens, LearnScreen, LessonScreen, LessonStrip):
        yield part.BINDINGS


def _split(keys: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in keys.split(",") if key.strip())


@dataclass(frozen=True)
class Keymap:
    """The keys that the user has chosen, by the ids of their bindings. path: the file they are from."""

    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    path: Path | None = None

    def key_of(self, command: Command) -> str:
        """Return the key of a command of the lab as it is shown to the user."""
        keys = self.chosen.get(f"{LAB}.{command.id}")
        return key_label(keys[0]) if keys else key_of(command)

    def name_of(self, command: Command) -> str:
        """Return Textual's name of the first key of a command; empty if it has none."""
        return next(iter(self.chosen.get(f"{LAB}.{command.id}", _split(command.keys))), "")

    def commands_of_key(self, key: str) -> list[Command]:
        """Return the commands of the lab with this key, by Textual's name."""
        return [c for c in COMMANDS if key in self.chosen.get(f"{LAB}.{c.id}", _split(c.keys))]

    def changed_elsewhere(self) -> list[tuple[str, str, str]]:
        """Return place, key and meaning of the keys chosen outside of the lab's own."""
        if not any(not id.startswith(f"{LAB}.") for id in self.chosen):
            return []
        every = bindables()
        return [
            (every[id].place, " ".join(map(key_label, keys)), every[id].about)
            for id, keys in self.chosen.items()
            if every[id].place != LAB
        ]

    def for_textual(self) -> dict[str, str]:
        """Return what `App.set_keymap` takes.

        Textual 8.2.8 drops a binding whose key another binding has or had, so those are listed with their keys too.
        """
        if not self.chosen:
            return {}
        every = bindables()
        touched = {(every[id].place, key) for id, keys in self.chosen.items() for key in (*keys, *every[id].keys)}
        keymap = {
            id: each.keys for id, each in every.items() if any((each.place, key) in touched for key in each.keys)
        } | dict(self.chosen)
        return {id: ",".join(keys) for id, keys in keymap.items()}


def keymap_path() -> Path:
    """Return the file of the user's keymap, which need not exist."""
    return config_folder() / FILE_NAME


def read(path: Path) -> Keymap:
    """Read a keymap; without the file, every key keeps its default. Raises ConfigError with all problems."""
    if not path.exists():
        return Keymap()
    try:
        tables = tomllib.loads(files.read_text(path, LARGEST_FILE))
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError.of("unreadable", f"not readable as TOML: {error}", key=str(path)) from error
    return Keymap(parse(tables), path)


def parse(tables: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the keys of TOML tables, by id. Raises ConfigError with all problems."""
    every = bindables()
    places = {each.place for each in every.values()}
    problems: list[Problem] = []
    chosen: dict[str, tuple[str, ...]] = {}
    for place, table in tables.items():
        if place not in places or not isinstance(table, Mapping):
            problems.append(_unknown(f"[{place}]", "no part of the app has this name", place, places))
            continue
        for name, value in table.items():
            id = f"{place}.{name}"
            if id not in every:
                names = [each.name for each in every.values() if each.place == place]
                problems.append(_unknown(id, "no command has this name", name, names))
                continue
            keys, wrong = _keys(id, value)
            problems += wrong
            if not wrong:
                chosen[id] = keys
    problems = problems or _conflicts(every, chosen)
    if problems:
        raise ConfigError(problems)
    return chosen


def _unknown(key: str, message: str, name: str, names: Iterable[str]) -> Problem:
    return Problem(code="unknown_key", message=message, key=key, suggestion=nearest(name, sorted(names)))


def _keys(id: str, value: Any) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the keys of a binding by Textual's names, and what is wrong with them."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) for each in values):
        return (), [Problem(code="wrong_type", message="must be a key or a list of keys", key=id, value=value)]
    keys = [normalized(each) for each in values]
    problems = [
        Problem(
            code="unknown_name",
            message="no key has this name",
            key=id,
            value=each,
            suggestion=nearest(each.lower(), KEY_NAMES),
        )
        for each, key in zip(values, keys, strict=True)
        if key is None
    ]
    problems += [
        Problem(code="conflict", message="this key is reserved for the app", key=id, value=each)
        for each, key in zip(values, keys, strict=True)
        if key in RESERVED
    ]
    return tuple(key for key in keys if key is not None), problems


def _conflicts(every: Mapping[str, Bindable], chosen: Mapping[str, tuple[str, ...]]) -> list[Problem]:
    """Return a problem for each key that two bindings of one place would have."""
    problems = []
    owners: dict[tuple[str, str], list[Bindable]] = {}
    for id, each in every.items():
        for key in chosen.get(id, each.keys):
            for other in owners.setdefault((each.place, key), []):
                if {each.needs, other.needs} in EXCLUDE_EACH_OTHER or not {id, other.id} & set(chosen):
                    continue
                culprit, kept = (each, other) if id in chosen else (other, each)
                message = f"{kept.id} has this key, too; choose another for one of them"
                problems.append(Problem(code="conflict", message=message, key=culprit.id, value=shown_key(key)))
            owners[each.place, key].append(each)
    return problems


def default_toml() -> str:
    """Return the default keymap as a TOML file, to copy from."""
    lines = [f"# The default keys of tui-lab app. Put those to change into {keymap_path()}:"]
    lines.append("# one key, or a list of keys. A key of a pane goes before the same key of the lab.")
    place = ""
    for each in bindables().values():
        if each.place != place:
            place = each.place
            lines += ["", f"[{place}]"]
        shown = [_quoted(shown_key(key)) for key in each.keys]
        value = ", ".join(shown) if len(shown) == 1 else f"[{', '.join(shown)}]"
        about = "" if _slug(each.about) == each.name else f"  # {each.about}"
        lines.append(f"{each.name} = {value}{about}" if shown else f'# {each.name} = ""{about}')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
