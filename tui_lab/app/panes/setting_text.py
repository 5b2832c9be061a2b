"""Settings as text: their values, what is allowed, and the parameter count they lead to."""

from typing import Any, get_args

from pydantic.fields import FieldInfo
from rich.text import Text

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.parameter_count import count_parameters, parameter_table

FIELDS = settings.fields()
BOUND_NAMES = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}
LEAST_HIDDEN_BOUND = 10**9
"""Bounds from here on only guard against overflow and are not shown."""


def format_value(value: Any) -> str:
    """Return a value as the user would type it."""
    if isinstance(value, tuple):
        return ", ".join(item if isinstance(item, str) else f"{item:g}" for item in value)
    return str(value)


def parse_value(key: str, text: str) -> Any:
    """Return the value that the text means for `key`; it may not be valid."""
    if key == "optim.betas":
        return settings.parse_value(f"[{text.strip().strip('[]')}]")
    if key == "faults":
        return text.replace(",", " ").split()
    return text.strip() if FIELDS[key].annotation is str else settings.parse_value(text)


def choices(key: str) -> list[str]:
    """Return the values of a setting that takes one of a few names; empty for others."""
    return [choice for choice in get_args(FIELDS[key].annotation) if isinstance(choice, str)]


def allowed(key: str) -> str:
    """Return the choices or bounds of a setting, with its unit."""
    field = FIELDS[key]
    if key == "faults":
        return "names, separated by commas; tui-lab faults lists them"
    if names := choices(key):
        return " | ".join(names)
    extra = field.json_schema_extra
    unit = extra["unit"] if isinstance(extra, dict) else ""
    return " ".join(filter(None, (_bounds(field), str(unit))))


def _bounds(field: FieldInfo) -> str:
    bounds = {
        name: f"{getattr(limit, name):,.10g}"
        for limit in field.metadata
        for name in BOUND_NAMES
        if hasattr(limit, name) and getattr(limit, name) < LEAST_HIDDEN_BOUND
    }
    if set(bounds) == {"ge", "le"}:
        return f"{bounds['ge']} to {bounds['le']}"
    return ", ".join(f"{name} {bounds[bound]}" for bound, name in BOUND_NAMES.items() if bound in bounds)


def parameters_text(config: Config, n_vocab: int, *, formula: bool) -> Text:
    """Return the number of parameters, with a line per kind of weight if `formula`."""
    if config.model.source:
        return Text(f"parameters: see {config.model.source}")
    total = count_parameters(config.model, n_vocab)
    text = Text.assemble((f"{total:,}", "bold"), f" parameters with V = {n_vocab:,}")
    if not formula:
        return text.append("  p: formula", "dim")
    for row in parameter_table(config.model, n_vocab):
        text.append(f"\n{row.symbol:<10} {row.count:>12,}  {row.shape}")
    return text
