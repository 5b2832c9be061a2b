"""The reference of settings and of commands, made from the schema and from the program's own help. Needs no torch."""

import math
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from tui_lab.core.config import settings

SETTINGS = "reference/settings.md"
COMMANDS = "reference/commands.md"

SETTINGS_INTRODUCTION = """# Settings

Which settings a run has, what they mean and which values are allowed. Set one with `--set KEY=VALUE`,
in a TOML file, or in the config pane of the app. Those marked *live* can be changed while a run trains.
`tui-lab config schema` prints the same as a JSON schema.
"""
TYPE = re.compile(r" <(\w+)[^>]*>$")
COMMANDS_INTRODUCTION = """# Commands

All commands with their options. `tui-lab COMMAND --help` prints the same.
[Training](../guide/training.md#exit-codes) lists the exit codes.
"""


def pages() -> dict[str, str]:
    """Return the Markdown of both pages by path inside docs."""
    return {SETTINGS: settings_page(), COMMANDS: commands_page()}


def settings_page() -> str:
    """Return a table of all settings for each section of a config."""
    sections: dict[str, list[str]] = {}
    for key, field in settings.fields().items():
        sections.setdefault(key.rpartition(".")[0] or key, []).append(_row(key, field))
    parts = [SETTINGS_INTRODUCTION]
    for section, rows in sections.items():
        parts.append("\n".join([f"## {section}", "", "| setting | meaning | default |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _row(key: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = f", in {extra['unit']}" if extra.get("unit") else ""
    live = " *live*" if settings.is_live(key) else ""
    meaning = f"**{field.title}**{unit}{live}<br>{_cell(field.description or '')} {_allowed(key, field)}".rstrip()
    default = field.get_default(call_default_factory=True)
    return f"| `{key}` | {meaning} | {_code(default)} |"


def _allowed(key: str, field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return f"One of {', '.join(f'`{value}`' for value in get_args(field.annotation))}."
    low, high = settings.bounds(key)
    if math.isinf(low) and math.isinf(high):
        return ""
    return f"From {_number(low)}." if math.isinf(high) else f"{_number(low)} to {_number(high)}."


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _code(value: object) -> str:
    if value in ("", (), None):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands_page() -> str:
    """Return a section for each command of `tui-lab`: usage, help, arguments and options."""
    from tui_lab.cli.main import app

    return "\n".join([COMMANDS_INTRODUCTION, *_commands(typer.main.get_command(app), "tui-lab")])


def _commands(command: Any, name: str) -> Iterator[str]:
    if getattr(command, "hidden", False):
        return
    context = command.context_class(command, info_name=name)
    heading = "##" if name.count(" ") < 2 else "###"
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"{heading} {name}\n\n{_cell(command.help or '')}\n\n```text\n{' '.join(usage.split())}\n```\n"
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [f"| `{_name(option)}` | {_cell(text)} |" for option, text in filter(None, records)]
    if rows:
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *rows, ""])
    for subcommand_name, subcommand in getattr(command, "commands", {}).items():
        yield from _commands(subcommand, f"{name} {subcommand_name}")


def _name(option: str) -> str:
    """Return an option with its type as the help shows it, `--steps <int>`, or an argument.

    The type of an argument says nothing more.
    """
    name = TYPE.sub("", option)
    kind = TYPE.search(option)
    return f"{name} {kind[1].upper()}" if kind and option.startswith("-") else name
