"""Render the templates of the reports."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_lab.core.config import script, settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig, ScriptConfig
from tui_lab.runs.figures import setting_text
from tui_lab.runs.listing import not_default
from tui_lab.util.escape import printable

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"

SettingRow = tuple[str, str, str | None]
"""Name, value, and the default if the value differs from it."""


def render(template: str, **values: Any) -> str:
    """Return the page of a template, with every value escaped."""
    return environment().get_template(template).render(values)


@cache
def environment() -> "Environment":
    """Return the environment of the templates: autoescape, control characters shown as escapes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["count"] = "{:,}".format
    jinja.filters["figure"] = "{:.6g}".format
    jinja.filters["setting"] = setting_text
    return jinja


def _printable(value: Any) -> Any:
    """Escape the control characters of a value; autoescape then escapes markup. Rendered markup passes unchanged."""
    return value if hasattr(value, "__html__") else printable(str(value))


def settings_by_section(config: RunConfig, without: tuple[str, ...] = ()) -> dict[str, list[SettingRow]]:
    """Return every setting by section, except those in `without` (dotted keys). Those of a script have no default."""
    if not isinstance(config, Config):
        return _script_settings(config)
    different = not_default(config)
    default = Config()
    sections: dict[str, list[SettingRow]] = {}
    for key in settings.keys_of(config):
        if key in without:
            continue
        section, _, name = key.partition(".") if "." in key else ("", "", key)
        value = setting_text(settings.get(config, key))
        row = (name, value, setting_text(settings.get(default, key)) if key in different else None)
        sections.setdefault(section or name, []).append(row)
    return sections


def _script_settings(config: ScriptConfig) -> dict[str, list[SettingRow]]:
    sections: dict[str, list[SettingRow]] = {}
    for key, value in script.known_values(config).items():
        section, _, name = key.partition(".")
        sections.setdefault(section, []).append((name, setting_text(value), None))
    return sections
