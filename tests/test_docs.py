"""What the documents name exists: files, modules, links, settings, commands and their options."""

import importlib.util
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import tui_lab
from tests.cli.documents import GUIDE, README, ROOT, command_of, program
from tui_lab.core.config import script, settings
from tui_lab.util import exit_codes, plugin_registry

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FOLDERS = "core|data|docs|examples|tests|tools|tui_lab"
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*[\w/]")
MODULE = re.compile(r"\btui_lab(?:\.[a-z_]\w*)+")
SETTING = re.compile(r"(?:model|data|optim|train)\.(?!(?:py|safetensors)$)[a-z_]+")
FILE_NAME = re.compile(r"[\w/]+\.(?:py|tcss)")


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def wrong_names(find: Callable[[Path], Iterable[object]], pages: Iterable[Path] = PAGES) -> dict[str, list[str]]:
    """What `find` returns of each page, without the pages for which it returns nothing."""
    names = {page_name(page): sorted(map(str, find(page))) for page in pages}
    return {page: wrong for page, wrong in names.items() if wrong}


def inline_code(page: Path) -> Iterator[str]:
    """Everything between single backticks, outside of fenced blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", text):
        yield " ".join(code.split())


def test_paths_named_exist() -> None:
    """Paths from the top of the repository; NAME stands for a name of the reader's choice."""

    def missing(page: Path) -> list[str]:
        paths = {path.rstrip("/.") for path in PATH.findall(page.read_text("utf-8")) if "NAME" not in path}
        return [path for path in paths if not (ROOT / path).exists()]

    assert wrong_names(missing) == {}


def test_file_names_exist() -> None:
    """A file name alone, such as `train_step.py`, is one of this repository. The guide names files of users, too."""
    files = [f"/{path.relative_to(ROOT)}" for top in FOLDERS.split("|") for path in (ROOT / top).rglob("*.*")]

    def missing(page: Path) -> list[str]:
        names = {code for code in inline_code(page) if FILE_NAME.fullmatch(code) and "NAME" not in code}
        return [name for name in names if not any(file.endswith(f"/{name}") for file in files)]

    assert wrong_names(missing, [page for page in PAGES if page not in GUIDE]) == {}


def test_modules_named_exist() -> None:
    """Modules, the names that `tui_lab` itself has, and the groups of entry points."""
    known = {f"tui_lab.{name}" for name in (*plugin_registry.KINDS, *tui_lab.__all__)}

    def missing(page: Path) -> list[str]:
        names = set(MODULE.findall(page.read_text("utf-8"))) - known
        return [name for name in names if not importlib.util.find_spec(name)]

    assert wrong_names(missing) == {}


def test_links_lead_to_files() -> None:
    """In the repository, too, where the generated pages of the site do not exist."""

    def missing(page: Path) -> list[Path]:
        links = re.findall(r"\]\(([^):#]+)[^):]*\)", page.read_text("utf-8"))
        targets = {Path(os.path.normpath(page.parent / link)) for link in links}
        return [target for target in targets if not target.exists()]

    assert wrong_names(missing) == {}


def test_settings_named_exist() -> None:
    known = {*settings.fields(), *script.keys()}
    assert wrong_names(lambda page: {code for code in inline_code(page) if SETTING.fullmatch(code)} - known) == {}


def test_commands_named_exist() -> None:
    """`tui-lab COMMAND --option` in running text names a command and options of it."""
    codes = {code for page in PAGES for code in inline_code(page) if code.startswith("tui-lab ")}
    assert len(codes) > 50
    for code in sorted(codes):
        # What follows -- belongs to the user's script.
        command, rest = command_of(shlex.split(code.partition(" -- ")[0])[1:])
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert command is not program() or used, code
        assert used <= options, code


def test_extras_named_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    def missing(page: Path) -> set[str]:
        named = re.findall(r"(?:tui-lab|\.)\[([\w,]+)\]", page.read_text("utf-8"))
        return {extra for names in named for extra in names.split(",")} - set(project["optional-dependencies"])

    assert wrong_names(missing) == {}


def test_guide_lists_the_extras_of_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "guide" / "install.md").read_text("utf-8"), re.MULTILINE)
    for_developers = {"dev", "peers", "browser", "audit", "docs", "litgpt"}
    assert set(rows) == set(project["optional-dependencies"]) - for_developers


def keys_in_table(heading: str) -> set[str]:
    """The keys in the first column of the table under this heading of the app's guide, in lower case except letters."""
    text = (ROOT / "docs" / "guide" / "app.md").read_text("utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    return {_lower(key) for key in keys}


def _lower(key: str) -> str:
    return key if len(key) == 1 else key.lower()


def test_guide_lists_the_keys_of_the_lab() -> None:
    from tui_lab.app.actions import COMMANDS, key_of

    commands = [command for command in COMMANDS if command.keys and command.needs not in ("replay", "resumable")]
    keys = [key_of(command) for command in commands if not command.id.startswith("pane_")]
    assert keys_in_table("Keys of the lab") == {_lower(key) for key in keys} | {"ctrl+p"}


def test_guide_lists_the_keys_of_home_and_of_the_runs_screen() -> None:
    from textual.binding import Binding

    from tui_lab.app.screens.home import Home
    from tui_lab.app.screens.runs.screen import RunsScreen

    names = {"question_mark": "?", "slash": "/", "escape": "esc"}
    for heading, screen in (("Home", Home), ("All runs", RunsScreen)):
        keys = [b.key.partition(",")[0] for b in screen.BINDINGS if isinstance(b, Binding)]
        assert keys_in_table(heading) == {names.get(key, key) for key in keys} | {"enter"}


def test_guide_lists_the_exit_codes() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.isupper()}
    table = (ROOT / "docs" / "guide" / "training.md").read_text("utf-8").partition("## Exit codes")[2]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == codes


def test_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150
