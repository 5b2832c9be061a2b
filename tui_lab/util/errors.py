"""Errors that a person can act on; a front end shows the message alone, never a traceback."""

from collections.abc import Sequence


class ConfigError(ValueError):
    """Bad settings. `problems` has one line for each: the key, the value, what is allowed, the nearest name."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RunError(ValueError):
    """A run folder that is missing, damaged or of another kind than asked for."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss or a gradient is not finite."""


class DataError(ValueError):
    """Bad data or a bad data setting: what is wrong and what is allowed."""
