"""Check that a tag, the version and the changelog agree: `python -m tools.distribution.release v1.2.3`."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def version() -> str:
    """Return the version, which pyproject.toml alone has."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return found


def newest_entry() -> tuple[str, str]:
    """Return the version of the changelog's first entry, and its date or "unreleased"."""
    match = re.search(r"^## (\S+) \(([^)]+)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    return (match[1], match[2]) if match else ("", "")


def problems(tag: str) -> list[str]:
    """Return what keeps `tag` from being released."""
    found = []
    entry, date = newest_entry()
    if tag != f"v{version()}":
        found.append(f"the tag is {tag}, and the version in pyproject.toml {version()}")
    if entry != version():
        found.append(f"the first entry of CHANGELOG.md is {entry or 'missing'}, and the version {version()}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        found.append(f"the entry {entry} of CHANGELOG.md has no date: {date}")
    return found


if __name__ == "__main__":
    for problem in problems(sys.argv[1]):
        sys.stderr.write(f"{problem}\n")
    sys.exit(bool(problems(sys.argv[1])))
