"""Help as blocks: what Markdown gives, what a search finds, and keys that stand in one line."""

import io

import pytest
from rich.console import Console

from tui_lab.app.screens.help_text import draw, inline, matching, parse

PAGE = """# Loss

The **train** loss
of every step.

| key | what it does |
|---|---|
| `Shift+←` `Shift+→` `j` `k` `↑` `↓` | pan over the curve, as far as there are steps that were recorded |
| `m` | smoothing |

## Glossary

**Dropout**: set activations to zero.
"""


def test_titles_paragraphs_and_rows() -> None:
    assert [(block.kind, block.plain) for block in parse(PAGE)] == [
        ("title", "Loss"),
        ("text", "The train loss of every step."),
        ("row", "Shift+← Shift+→ j k ↑ ↓  pan over the curve, as far as there are steps that were recorded"),
        ("row", "m  smoothing"),
        ("title", "Glossary"),
        ("text", "Dropout: set activations to zero."),
    ]
    assert inline("`a` and **b**").plain == "a and b"


@pytest.mark.parametrize(("search", "shown"), [("zero", "Glossary"), ("smooth", "Loss"), ("xyz", "")])
def test_search_keeps_the_title_of_what_it_finds(search: str, shown: str) -> None:
    blocks = matching(parse(PAGE), search)
    assert [block.cells[0] for block in blocks if block.kind == "title"] == ([shown] if shown else [])
    assert len(blocks) == (2 if shown else 0)


def test_search_for_a_title_shows_its_paragraphs() -> None:
    page = "## Glossary\n\n### Adam\n\nAn optimizer.\n\nTypical: 1e-3.\n\n### SGD\n\nA step.\n"
    assert [block.plain for block in matching(parse(page), "adam")] == ["Adam", "An optimizer.", "Typical: 1e-3."]
    assert [block.kind for block in matching(parse(PAGE), "loss")][:4] == ["title", "text", "row", "row"]


@pytest.mark.parametrize("width", [60, 90])
def test_keys_stand_in_one_line(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(draw(parse(PAGE), "pan"))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert any("Shift+← Shift+→ j k ↑ ↓  pan" in line for line in lines)
