"""How the next token is chosen, and what is told of it. Needs no torch, so a form can check its fields."""

from dataclasses import dataclass

from tui_lab.util.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. temperature 0 is greedy; top_k 0 and top_p 1 are off. Raises ConfigError."""

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = (
            ("temperature", self.temperature, 0.0 <= self.temperature <= 100.0, "0 to 100"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (off) or more"),
            ("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "more than 0, at most 1"),
            ("seed", self.seed, 0 <= self.seed < 2**63, "0 or more"),
        )
        problems = [f"{name} = {value}: allowed is {allowed}" for name, value, fine, allowed in bounds if not fine]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class Alternative:
    token: int
    probability: float


@dataclass(frozen=True)
class Generated:
    """One token. probability: the model's own, before temperature and cuts."""

    token: int
    text: str
    """What may be shown now: whole characters only; the first half of one waits for the second."""
    probability: float
    alternatives: tuple[Alternative, ...]
    """The likeliest tokens, the likeliest first, by the same measure."""
