"""Read a lesson.toml: every problem is reported at once, with its file and key."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tui_lab.core.config import settings
from tui_lab.core.lessons.schema import LessonFile, keys_of
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, LabError, Problem, nearest, shortened

LESSON = "lesson.toml"
LARGEST_FILE = 2**20
"""Bytes of a lesson.toml and of a text.md."""


def read_lesson_file(path: Path) -> LessonFile:
    """Return the content of a lesson.toml. Raises ConfigError with all of its problems."""
    try:
        tables = tomllib.loads(files.read_text(path, LARGEST_FILE))
    except RecursionError as error:
        raise ConfigError.of("unreadable", "not readable as TOML: nested too deeply", key=str(path)) from error
    except (ValueError, OSError) as error:
        raise ConfigError.of("unreadable", f"not readable as TOML: {error}", key=str(path)) from error
    try:
        return LessonFile.model_validate(_flat_settings(tables))
    except ValidationError as error:
        problems: list[Problem] = [
            replace(problem, key=f"{path}: {problem.key}")
            for item in error.errors(include_url=False)
            for problem in _problems_of(item, tables)
        ]
        # An unknown key first: it explains why another one is missing.
        problems.sort(key=lambda problem: problem.code != "unknown_key")
        raise ConfigError(problems) from error


def _flat_settings(tables: Any) -> Any:
    """`tables` in which each table `set` has dotted keys: TOML reads optim.lr without quotes as a table in a table."""
    if isinstance(tables, list):
        return [_flat_settings(item) for item in tables]
    if not isinstance(tables, dict):
        return tables
    return {
        key: dict(_dotted(value)) if key == "set" and isinstance(value, dict) else _flat_settings(value)
        for key, value in tables.items()
    }


def _dotted(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _problems_of(item: ErrorDetails, tables: dict[str, Any]) -> list[Problem]:
    """Return the problems of an error of pydantic; keys name stages by their id."""
    names = tuple(part for part in item["loc"] if isinstance(part, str))
    key = _key(item["loc"], tables)
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, LabError):
        return [replace(problem, key=".".join(filter(None, (key, problem.key)))) for problem in cause.problems]
    if item["type"] == "extra_forbidden":
        suggestion = nearest(names[-1], keys_of(names[:-1]))
        return [Problem(code="unknown_key", message="unknown key", key=shortened(key), suggestion=suggestion)]
    if item["type"] == "string_pattern_mismatch":
        message = "must be lowercase letters, digits and hyphens"
        return [Problem(code="invalid", message=message, key=key, value=item["input"])]
    return [settings.value_problem(key, item)]


def _key(location: tuple[int | str, ...], tables: dict[str, Any]) -> str:
    """Return where a value is: `stage.see.until.step`.

    A stage without an id, and an item of a list, has its number from 1.
    """
    parts = list[str]()
    value: Any = tables
    for part in location:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
        stage_id = value.get("id") if parts == ["stage"] and isinstance(value, dict) else None
        number = str(part + 1) if isinstance(part, int) else part
        parts.append(shortened(stage_id) if isinstance(stage_id, str) and stage_id else number)
    return ".".join(parts)
