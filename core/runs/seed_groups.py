"""Groups of runs that differ only in their seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.core.config import script, settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import CAPTURED, ImportedConfig, RunConfig
from tui_lab.core.runs.catalog import RunRow, row_of, run_folders
from tui_lab.core.runs.code_diff import code_digest
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import ConfigError, RunError

SEED = "train.seed"
ENDED = ("done", "target", "patience")
"""States of a run that did all it was meant to do."""
NAMES_OF_OUTPUT = frozenset(
    ["out", "output", "out_dir", "output_dir", "save_dir", "log_dir", "logdir", "checkpoint_dir", "ckpt_dir",
     "run_name", "exp_name", "experiment_name", "wandb_run_name"]
)  # fmt: skip
"""Captured settings of a script that only name where its results go."""
SAME_TASK = (
    "data.task",
    "data.path",
    "data.tokenizer",
    "data.vocab",
    "data.val_fraction",
    "data.length",
    "data.n_digits",
)
"""Settings that determine what a validation loss measures: with others, two losses cannot be compared."""
ONLY_REVERSE = frozenset({"data.length", "data.n_digits"})
ONLY_TEXT = frozenset({"data.path", "data.vocab"})


@dataclass(frozen=True)
class SeedGroup:
    """Runs with the same settings and live changes, each with another seed; the first is the named one.

    left_out: runs of the same settings that are not compared, with the reason.
    """

    runs: tuple[RunRow, ...]
    left_out: Mapping[str, str]

    @property
    def seeds(self) -> list[int | None]:
        return [seed_of(row.config) for row in self.runs]


def seed_of(config: RunConfig | None) -> int | None:
    """Return the seed of a run; None where it is not known."""
    if isinstance(config, Config):
        return config.train.seed
    return (captured_seed(config) or ("", None))[1]


def captured_seed(config: RunConfig | None) -> tuple[str, int] | None:
    """Return the name and value of the setting of a script that is its seed; None where there is none."""
    captured = {} if config is None or isinstance(config, Config) else config.settings
    return next(((name, value) for name, value in captured.items() if _is_seed(name) and type(value) is int), None)


def group_by_seed(rows: Sequence[RunRow]) -> list[SeedGroup]:
    """Group the rows, in their order, and add to each group the other seeds in the folders of its runs.

    A run found there must have ended; a row is compared in any state.
    """
    named: dict[str, list[RunRow]] = {}
    for row in rows:
        named.setdefault(_key(row), []).append(row)
    return [_group(key, members) for key, members in named.items()]


def _group(key: str, named: Sequence[RunRow]) -> SeedGroup:
    chosen: list[RunRow] = []
    left_out: dict[str, str] = {}
    for row in [*named, *_siblings(key, named)]:
        seed = seed_of(row.config)
        same = next((other for other in chosen if seed is not None and seed_of(other.config) == seed), None)
        if same is not None:
            left_out[row.name] = f"has the seed of {same.name}"
        elif row not in named and row.state not in ENDED:
            left_out[row.name] = row.state
        else:
            chosen.append(row)
    return SeedGroup(tuple(chosen), left_out)


def _siblings(key: str, named: Sequence[RunRow]) -> Iterable[RunRow]:
    """Yield the other runs in the folders of `named` that have this key."""
    paths = {row.path.resolve() for row in named}
    for folder in dict.fromkeys(path.parent for path in paths):
        for path in run_folders(folder, depth=1):
            if path.resolve() not in paths and _settings_text(_config(path)) == _settings_text(named[0].config):
                row = row_of(path, path.name)
                if _key(row) == key:
                    yield row


def _config(path: Path) -> RunConfig | None:
    try:
        return Run(path).config()
    except (ConfigError, RunError, OSError):
        return None


def _key(row: RunRow) -> str:
    """Return a text that runs have in common which differ only in their seed.

    The settings of an imported run are not known, so it is alone. Scripts must have the same code, too.
    """
    if row.config is None or isinstance(row.config, ImportedConfig):
        return str(row.path)
    changes = [(change.step, change.key, change.new) for change in row.changes]
    code = "" if isinstance(row.config, Config) else code_digest(row.path)
    return f"{_settings_text(row.config)} {changes} {code}"


def _settings_text(config: RunConfig | None) -> str:
    # By `repr`, since NaN is not equal to itself.
    return "" if config is None else repr(settings_without_seed(config))


def settings_without_seed(config: RunConfig) -> dict[str, Any]:
    """Return the settings by key, without the seed and, of a script, the names of its outputs."""
    values = script.known_values(config)
    if isinstance(config, Config):
        return {key: value for key, value in values.items() if key != SEED}
    names = {key: key.removeprefix(CAPTURED) for key in values}
    return {
        key: value for key, value in values.items() if not _is_seed(names[key]) and names[key] not in NAMES_OF_OUTPUT
    }


def _is_seed(name: str) -> bool:
    """Return whether a captured setting is a seed: `seed`, `random_seed`, `args.seed`."""
    return "seed" in name.rpartition(".")[2].split("_")


def different_task(a: RunConfig, b: RunConfig) -> str | None:
    """Return the first setting for which the losses of two runs cannot be compared; None where they can.

    Of scripts, only the file is known; of an imported run nothing, so the user decides what to compare.
    """
    if isinstance(a, ImportedConfig) or isinstance(b, ImportedConfig):
        return None
    if not isinstance(a, Config) or not isinstance(b, Config):
        scripts = [None if isinstance(config, Config) else config.command[:1] for config in (a, b)]
        return None if scripts[0] == scripts[1] else "command"
    ignored = {"reverse": ONLY_TEXT, "text": ONLY_REVERSE}.get(a.data.task, frozenset())
    values = [script.values_of(config) for config in (a, b)]
    options = [key for each in values for key in each if key.startswith(settings.OPTION)]
    keys = [*(key for key in SAME_TASK if key not in ignored), *options]
    return next((key for key in keys if values[0].get(key) != values[1].get(key)), None)
