"""How the next token is sampled, and what is reported of it. It needs no torch, so that a form can check its fields."""

import math
from dataclasses import dataclass

from tui_lab.util.errors import ConfigError, Problem

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """How the next token is sampled. temperature 0 is greedy; top_k 0 and top_p 1 are off. Raises ConfigError."""

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = (
            ("temperature", self.temperature, 0.0 <= self.temperature <= 100.0, "0 to 100"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (off) or more"),
            ("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "more than 0, at most 1"),
            ("seed", self.seed, 0 <= self.seed <= MAX_SEED, "0 or more"),
        )
        problems = [
            Problem(code="invalid", message=_message(value), key=name, value=value, allowed=allowed)
            for name, value, is_allowed, allowed in bounds
            if not is_allowed
        ]
        if problems:
            raise ConfigError(problems)


def _message(value: float) -> str:
    return "is not a number" if math.isnan(value) else "is out of bounds"


@dataclass(frozen=True)
class Alternative:
    """A token and its probability."""

    token: int
    probability: float


@dataclass(frozen=True)
class Generated:
    """One generated token.

    text: the complete characters so far that were not in an earlier text; the bytes of an unfinished one wait.
    probability: the model's own, before temperature and cuts. alternatives: the likeliest tokens by it, in order.
    """

    token: int
    text: str
    probability: float
    alternatives: tuple[Alternative, ...]
