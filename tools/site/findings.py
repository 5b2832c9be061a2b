"""One page for each finding of the doctor, made from its catalog. Needs no torch."""

from tui_lab.core.config.faults import FAULTS, NEED_DROPOUT, Fault
from tui_lab.core.doctor.catalog import CATALOG, SECTIONS, Entry, Section

FOLDER = "findings"
TITLES: dict[Section, str] = {
    "data": "Data",
    "model": "Model",
    "loss": "Loss",
    "training": "Training",
    "monitors": "While it trains",
}
INTRODUCTION = """# All findings

Everything that the doctor can find, by the code that it prints. Each code has a page: what is wrong, what
it looks like, how the doctor decides, and what to do. `tui-lab doctor --explain CODE` prints the same in a terminal.
"""


def pages() -> dict[str, str]:
    """Return the Markdown of the index and of every finding by path inside docs."""
    index = {f"{FOLDER}/index.md": _index()}
    return index | {path_of(entry.code): _page(entry) for entry in CATALOG.values()}


def path_of(code: str) -> str:
    """Return the path of a finding's page inside docs."""
    return f"{FOLDER}/{code}.md"


def navigation() -> list[object]:
    """Return the entries of the site's navigation: the index, then the sections."""
    sections = [
        {title: [{entry.code: path_of(entry.code)} for entry in _entries(section)]} for section, title in TITLES.items()
    ]
    return [f"{FOLDER}/index.md", *sections]


def _entries(section: Section) -> list[Entry]:
    return [entry for entry in CATALOG.values() if entry.section == section]


def _index() -> str:
    parts = [INTRODUCTION]
    for section in SECTIONS:
        rows = [f"| [`{entry.code}`]({entry.code}.md) | {entry.meaning} |" for entry in _entries(section)]
        parts.append("\n".join([f"## {TITLES[section]}", "", "| code | what is wrong |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def _page(entry: Entry) -> str:
    parts = [
        f"# {entry.code}",
        _opening(entry),
        f"**{entry.meaning}**",
        f"## What it looks like\n\n{entry.symptom}",
        f"## How the doctor decides\n\n{entry.test}",
        f"## What to do\n\n{entry.fix}",
    ]
    parts += [_planted(fault) for fault in FAULTS.values() if fault.finding == entry.code]
    return "\n\n".join(parts) + "\n"


def _opening(entry: Entry) -> str:
    if entry.section == "monitors":
        return f"Why the events pane warns of `{entry.code}` while a run trains, and what to do."
    return f"Why the doctor reports `{entry.code}`, and what to do."


def _planted(fault: Fault) -> str:
    """Return how to see the mistake in a run of the lab."""
    dropout = " --set model.dropout=0.1" if fault.name in NEED_DROPOUT else ""
    return f"""## See it happen: the fault {fault.name}

The lab can plant this mistake in a run of its own. {fault.description}

```sh
tui-lab config show reverse --set 'faults=["{fault.name}"]'{dropout} > planted.toml
tui-lab doctor planted.toml
tui-lab app planted.toml
```"""
