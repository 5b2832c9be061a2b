"""The fields of the generation pane: how to sample, and how often."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tui_lab.core.inference.sampling import Sampling
from tui_lab.util.errors import ConfigError

DEFAULTS = {"temperature": "0.8", "top_k": "0", "top_p": "1", "seed": "0", "tokens": "80", "every": "0"}
AT_EVALUATIONS: Literal["eval"] = "eval"
FLOATS = ("temperature", "top_p")
BOUNDS = {"tokens": (1, 100_000), "every": (0, 10**9)}


@dataclass(frozen=True)
class SamplingFields:
    """The parsed fields. every: generate again after that many steps or at every evaluation; 0 is off."""

    sampling: Sampling
    max_new_tokens: int
    every: int | Literal["eval"]


def parse_fields(texts: Mapping[str, str]) -> SamplingFields:
    """Parse the texts of the fields named in `DEFAULTS`; an empty text means 0. Raises ConfigError."""
    values: dict[str, float] = {}
    at_evaluations = is_at_evaluations(texts["every"])
    for name in DEFAULTS:
        text = "0" if name == "every" and at_evaluations else texts[name].strip() or "0"
        try:
            values[name] = float(text) if name in FLOATS else int(text)
        except ValueError:
            allowed = f"a number, or {AT_EVALUATIONS}" if name == "every" else ""
            raise ConfigError.of("wrong_type", "must be a number", key=name, value=text, allowed=allowed) from None
    sampling = Sampling(values["temperature"], int(values["top_k"]), values["top_p"], int(values["seed"]))
    for name, (low, high) in BOUNDS.items():
        if not low <= values[name] <= high:
            raise ConfigError.of("invalid", f"must be between {low} and {high:,}", key=name, value=int(values[name]))
    return SamplingFields(sampling, int(values["tokens"]), AT_EVALUATIONS if at_evaluations else int(values["every"]))


def is_at_evaluations(text: str) -> bool:
    """Return whether the text of the field `every` asks for a reply at every evaluation."""
    return text.strip().lower() == AT_EVALUATIONS
