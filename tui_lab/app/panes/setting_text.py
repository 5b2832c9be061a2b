"""Settings as text: their values, what is allowed, and the parameter count they lead to."""

from typing import Any

from pydantic.fields import FieldInfo
from rich.text import Text

from tui_lab.core.config import script, settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import CAPTURED, ImportedConfig, RunConfig
from tui_lab.core.kernels.parameter_count import count_parameters, parameter_table
from tui_lab.util.ranges import ranges_text

FIELDS = settings.fields()
BOUND_NAMES = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}
LONGEST_NUMBER = 10
"""Characters of a number in the list."""
LEAST_HIDDEN_BOUND = 10**9
"""Bounds from here on only guard against overflow and are not shown."""


def field_of(config: RunConfig, key: str) -> FieldInfo | None:
    """Return the field of a setting; None for one captured from a script, and for an option of a plug-in's task."""
    if isinstance(config, Config):
        return FIELDS.get(key)
    section, _, name = key.partition(".")
    return None if key.startswith(CAPTURED) else type(getattr(config, section)).model_fields[name]


def value_of(config: RunConfig, key: str) -> Any:
    """Return the value of a setting that the run has."""
    if isinstance(config, Config):
        return settings.get(config, key)
    if key.startswith(CAPTURED):
        return config.settings.get(key.removeprefix(CAPTURED))
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def is_live(config: RunConfig, key: str) -> bool:
    """Return whether a setting can change while the run trains."""
    if isinstance(config, Config):
        return settings.is_live(key)
    return not key.startswith(CAPTURED) and key in script.live_keys(config)


def keys_of(config: RunConfig) -> list[str]:
    """Return the settings of a run in the order in which they are shown.

    Of a script, those that can change come first; what is not known, such as the number of its steps, is left out.
    """
    if isinstance(config, Config):
        return settings.keys_of(config)
    live = script.live_keys(config)
    return [*live, *(key for key in script.known_values(config) if key not in live)]


def format_value(value: Any) -> str:
    """Return a value as the user would type it."""
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return str(value)


def short_value(value: Any) -> str:
    """Return a value as the list shows it: a computed number, such as a rate of a schedule, with a few digits."""
    text = ", ".join(ranges_text(value)) if isinstance(value, tuple) else ""
    text = text or format_value(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > LONGEST_NUMBER else text


def parse_value(config: RunConfig, key: str, text: str) -> Any:
    """Return the value that the text means for `key`; it may not be valid."""
    if not isinstance(config, Config):
        return settings.parse_value(text)
    if isinstance(settings.get(config, key), tuple) and key != "faults":
        return settings.parse_value(f"[{text.strip().strip('[]')}]")
    if key == "faults":
        return text.replace(",", " ").split()
    field = field_of(config, key)
    is_text = field is not None and (field.annotation is str or settings.choices_of(key, field))
    return text.strip() if is_text else settings.parse_value(text)


def choices(config: RunConfig, key: str) -> list[str]:
    """Return the values of a setting that takes one of a few names; empty for others."""
    return settings.choices_of(key, field_of(config, key))


def about_text(config: RunConfig, key: str) -> Text:
    """Return the title of a setting, its meaning and what is allowed."""
    field = field_of(config, key)
    if field is None and isinstance(config, Config):
        return Text.assemble((f"{key} ", "bold"), f"is an option of the task {config.data.task}.")
    is_imported = isinstance(config, ImportedConfig)
    if field is None and is_imported:
        return Text.assemble((f"{key} ", "bold"), "is in the log.")
    if field is None:
        return Text.assemble((f"{key} ", "bold"), "was captured from the script. Change it there.")
    text = Text.assemble((f"{field.title}. ", "bold"), str(field.description))
    if isinstance(config, Config) or is_live(config, key):
        return text.append(f"  {allowed(key, field)}", "dim")
    return text if is_imported else text.append("  The script sets it.", "dim")


def allowed(key: str, field: FieldInfo) -> str:
    """Return the choices or bounds of a setting, with its unit."""
    if key == "faults":
        return "names, separated by commas; tui-lab faults lists them"
    if names := settings.choices_of(key, field):
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
        return text
    for row in parameter_table(config.model, n_vocab):
        text.append(f"\n{row.symbol:<10} {row.count:>12,}  {row.shape}")
    return text


def changes_text(old: Config, new: Config) -> str:
    """Return the settings that differ, each with both values."""
    return "; ".join(
        f"{key} {short_value(settings.get(old, key)) or 'none'} → {short_value(value) or 'none'}"
        for key, value in settings.differences(old, new).items()
    )
