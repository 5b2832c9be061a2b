"""The training scripts of this folder, each with one silent mistake and a healthy twin, as programs.toml lists them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Program:
    """One script: `python FILE` trains with the mistake, `python FILE --fixed` without it."""

    name: str
    file: Path
    style: str
    source: str
    """The public report that describes the mistake: "owner/repository #123"."""
    cause: str
    fix: str
    author: Literal["fresh", "informed"]
    """Whether its author had seen the doctor's checks ("informed") or not ("fresh")."""
    needs: str = ""
    """The package beyond torch and numpy that it imports."""
    effect: str = ""
    """What the mistake costs, measured against the twin."""
    codes: tuple[str, ...] = ()
    """The codes of the findings that count as naming the cause."""


def programs() -> tuple[Program, ...]:
    """Return the programs in programs.toml, in its order.

    Raises TypeError for a key that is missing or not a field of Program.
    """
    tables = tomllib.loads((FOLDER / "programs.toml").read_text(encoding="utf-8"))
    return tuple(_program(name, table) for name, table in tables.items())


def scripts() -> tuple[Path, ...]:
    """Return the files of this folder that are training scripts, by name."""
    own = {"__init__.py", "programs.py"}
    return tuple(file for file in sorted(FOLDER.glob("*.py")) if file.name not in own and file.stem[:5] != "test_")


def _program(name: str, table: dict[str, object]) -> Program:
    codes = table.get("codes", [])
    if not isinstance(codes, list):
        raise TypeError(f"{name}: codes is {codes!r}, not a list")
    fields: dict[str, object] = {**table, "codes": tuple(codes)}
    return Program(name=name, file=FOLDER / f"{name}.py", **fields)  # type: ignore[arg-type]
