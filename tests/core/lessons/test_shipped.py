"""The lessons that come with tui-lab, and the example of the guide: they are valid, and what they say is so."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.documents import ROOT, code_blocks
from tui_lab.core.lessons.check_runs import check_runs
from tui_lab.core.lessons.load import BUILTIN, lesson_folders, load_lesson
from tui_lab.core.lessons.schema import TABLES, keys_of

GUIDE = ROOT / "docs" / "guide" / "lessons.md"
SHIPPED = [*lesson_folders(BUILTIN), *lesson_folders(ROOT / "examples" / "lessons")]
every_lesson = pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)


@every_lesson
def test_lesson_is_valid(folder: Path) -> None:
    lesson = load_lesson(folder)
    assert lesson.stages[-1].kind == "keep"


@pytest.mark.slow
@every_lesson
def test_runs_are_as_the_lesson_says(folder: Path) -> None:
    results = list(check_runs(load_lesson(folder)))
    wrong = [(r.stage.id, [fact.sentence for fact in r.facts if not fact.holds], r.problems) for r in results]
    assert [entry for entry, result in zip(wrong, results, strict=True) if not result.is_right] == []


def guide_tables() -> list[dict[str, Any]]:
    return [tomllib.loads(block) for block in code_blocks(GUIDE, "toml")]


def paths_of(table: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The keys in TOML tables, each as the names that lead to it; the settings in `set` are left out."""
    if isinstance(table, list):
        return {found for item in table for found in paths_of(item, path)}
    if not isinstance(table, dict) or path[-1:] == ("set",):
        return set()
    return {found for key, value in table.items() for found in ({(*path, key)} | paths_of(value, (*path, key)))}


def test_guide_shows_every_key_and_no_other() -> None:
    shown = {path for table in guide_tables() for path in paths_of(table)}
    keys = {(*path, key) for path in TABLES for key in keys_of(path)}
    assert shown - keys == set()
    text = GUIDE.read_text("utf-8")
    assert {path for path in keys - shown if f"`{path[-1]}" not in text and path[-1] not in ("metric", "step")} == set()
