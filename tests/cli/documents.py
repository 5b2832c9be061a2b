"""The code blocks of README.md and docs/guide, and the parser of the commands in them."""

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))


@dataclass(frozen=True)
class Shown:
    """One command line of a document: `arguments` without `tui-lab`, what `jq` gets, and where the output goes."""

    line: str
    arguments: list[str]
    reader: list[str]
    target: str


def code_blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of this language, in the order of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def shell_lines(page: Path) -> list[str]:
    """Every command line of the page's `sh` blocks, without comments."""
    text = "".join(code_blocks(page, "sh")).replace("\\\n", " ")
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]


def lab_commands(page: Path) -> list[Shown]:
    """The page's `tui-lab` commands; a torchrun line counts as the command that each of its processes runs."""
    lines = [re.sub(r"^torchrun .*?(?:-m tui_lab|tui-lab) ", "tui-lab ", line) for line in shell_lines(page)]
    return [_parsed(line) for line in lines if line.split()[0] == "tui-lab"]


def _parsed(line: str) -> Shown:
    command, _, target = line.partition(" > ") if " > " in line else (line, "", "")
    words = shlex.split(command)[1:]
    pipe = words.index("|") if "|" in words else len(words)
    return Shown(line, words[:pipe], words[pipe + 1 :], target.strip())


@cache
def program() -> Any:
    """The command line as typer's command group."""
    from tui_lab.cli.main import app

    return typer.main.get_command(app)


def command_of(arguments: list[str]) -> tuple[Any, list[str]]:
    """The innermost command that the arguments name, and the arguments left for it."""
    command = program()
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


def check_usage(arguments: list[str]) -> None:
    """Parse a command line without running it. Raises typer's usage error for an unknown command or option."""
    command, rest = command_of(arguments)
    command.make_context("tui-lab", list(rest))
