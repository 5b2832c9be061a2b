"""The form of the environment's report: sections of named figures, and what is missing or limited in each."""

from dataclasses import asdict, dataclass
from typing import Any

Figure = str | int | float | bool | list[str] | None
"""None: this machine does not say."""

SCHEMA = 1
"""The version of the JSON form."""


@dataclass(frozen=True)
class Missing:
    """Something that is missing or limited.

    needed: tui-lab does not work without it. fix: what to do, as a sentence or a command.
    """

    name: str
    message: str
    fix: str
    needed: bool = False


@dataclass(frozen=True)
class Section:
    name: str
    figures: dict[str, Figure]
    missing: tuple[Missing, ...] = ()


def works(sections: list[Section]) -> bool:
    """Return whether everything needed is there."""
    return not any(missing.needed for section in sections for missing in section.missing)


def to_json(sections: list[Section]) -> dict[str, Any]:
    """Return the report as one JSON object: a key for each section, and `missing` with what is missing in all."""
    return {
        "schema": SCHEMA,
        "works": works(sections),
        **{section.name: section.figures for section in sections},
        "missing": [{"section": s.name, **asdict(missing)} for s in sections for missing in s.missing],
    }
