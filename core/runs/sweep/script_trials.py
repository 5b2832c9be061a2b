"""The script whose trainings are the trials of a sweep, and how a value gets into it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core.runs.seed_groups import SEED

FOLDER = "folder"
"""`{folder}` in the arguments of the script is the folder of the trial."""


@dataclass(frozen=True)
class ScriptTrials:
    """What is started for each trial, and where.

    script: the file, or with `is_module` the module; arguments: may contain `{KEY}` for the value of a key, and
    `{folder}`. folder: the current folder of the script. python_path: PYTHONPATH as the user has it; None: not set.
    fixed: the values that all trials have. assigned: the keys, swept or fixed, of what the script or a module of it
    assigns. steps: after which a trial ends; 0: when the script does. threads: CPU threads of each trial; 0: as the
    script has it.
    """

    script: str
    arguments: tuple[str, ...]
    is_module: bool
    folder: str
    python_path: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    assigned: tuple[str, ...] = ()
    steps: int = 0
    threads: int = 0

    def arguments_for(self, values: Mapping[str, Any], folder: str) -> tuple[str, ...]:
        """Return the arguments of the trial with these values. folder: its own."""
        texts = {key: argument_text(value) for key, value in (self.fixed | dict(values)).items()}
        placed = tuple(with_values(argument, {FOLDER: folder} | texts) for argument in self.arguments)
        options = [f"{key}={text}" for key, text in texts.items() if is_option(key)]
        return (*placed, *options)

    def assigned_for(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the values that replace what the script assigns, as Python writes them."""
        all_values = self.fixed | dict(values)
        return {key: repr(all_values[key]) for key in self.assigned}

    @staticmethod
    def seed_for(values: Mapping[str, Any]) -> int:
        """Return the seed of the generators when the script starts."""
        return int(values.get(SEED, 0))


def is_option(key: str) -> bool:
    """Return whether a key is an option of the script, such as --lr."""
    return key.startswith("-")


def is_placed(key: str, arguments: Sequence[str]) -> bool:
    """Return whether the arguments of the script say where the value of a key goes."""
    return any("{" + key + "}" in argument for argument in arguments)


def with_values(argument: str, values: Mapping[str, str]) -> str:
    """Return an argument in which `{KEY}` is replaced by the value of the key; other braces stay."""
    for key, value in values.items():
        argument = argument.replace("{" + key + "}", value)
    return argument


def argument_text(value: Any) -> str:
    """Return a value as an argument of the script."""
    return value if isinstance(value, str) else repr(value)
