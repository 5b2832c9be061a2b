"""What is installed: few dependencies, each of them used, none without bounds, and locks with a hash for each file."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
LOCKS = sorted(ROOT.glob("requirements*.lock"))
PACKAGES = ("core", "data", "tui_lab")
NOT_LOCKED = {"torch"}
"""A machine chooses its own build of it (README: another build of torch), so the Makefile alone pins it."""
HANDED_OUT = {"textual_hires_canvas": "textual-plot", "aiohttp": "textual-serve", "sqlalchemy": "optuna"}
"""What the named dependency, which is pinned, gives to whoever builds on it: a canvas, a web server, a storage."""


def entries(lock: Path) -> dict[str, tuple[Version, list[str]]]:
    """Name → version and hashes of every requirement in a lock. Raises ValueError at a line that is anything else."""
    found: dict[str, tuple[Version, list[str]]] = {}
    lines = [line for line in lock.read_text("utf-8").splitlines() if line and not line.lstrip().startswith("#")]
    for requirement in " ".join(line.removesuffix("\\").strip() for line in lines).split(" --"):
        hashed = re.fullmatch(r"hash=sha256:([0-9a-f]{64})(?: (.+))?", requirement)
        following = hashed[2] if hashed else requirement
        if hashed:
            next(reversed(found.values()))[1].append(hashed[1])
        if following is not None:
            named = re.fullmatch(r"([A-Za-z0-9._-]+)==([^ ;]+)(?: ; .+)?", following)
            if named is None:
                raise ValueError(f"{lock.name}: {following!r}")
            found[canonicalize_name(named[1])] = (Version(named[2]), [])
    return found


def imports() -> set[str]:
    """The first part of every module that the packages import anywhere, inside functions too."""
    found: set[str] = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("requirement", [r for group in (DIRECT, *EXTRAS.values()) for r in group], ids=str)
def test_every_direct_dependency_is_pinned_or_bounded_on_both_sides(requirement: Requirement) -> None:
    operators = {part.operator for part in requirement.specifier}
    assert operators == {"=="} or (operators & {">=", ">"} and operators & {"<", "<="}), requirement
    assert requirement.url is None


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_entry_of_a_lock_has_hashes_and_there_is_no_url_and_no_index(lock: Path) -> None:
    found = entries(lock)
    assert len(found) > 50
    assert [name for name, (_, hashes) in found.items() if not hashes] == []
    text = lock.read_text("utf-8")
    assert "://" not in text and not re.search(
        r"^ *(-i|-f|-e|--index-url|--extra-index-url|--find-links)\b", text, re.M
    )


@pytest.mark.parametrize("line", ["torch", "torch>=2", "torch @ file.whl", "-e .", "--index-url x", "a==1 b==2"])
def test_a_lock_of_anything_else_would_be_noticed(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.lock").write_text(f"rich==15.0.0 \\\n    --hash=sha256:{'0' * 64}\n{line}\n", "utf-8")
    with pytest.raises(ValueError, match="bad.lock"):
        entries(tmp_path / "bad.lock")


def test_the_lock_holds_what_the_project_asks_for() -> None:
    found = entries(ROOT / "requirements.lock")
    wanted = [r for r in (*DIRECT, *EXTRAS["dev"]) if r.name not in NOT_LOCKED]
    for requirement in wanted:
        version, _ = found[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, (requirement, version)


def test_the_makefile_installs_the_torch_that_the_project_asks_for() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.findall(r"^TORCH \?= (.*)$", makefile, re.M) == [str(r) for r in DIRECT if r.name == "torch"]


def test_every_direct_dependency_is_used() -> None:
    modules: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(canonicalize_name(distribution), set()).add(module)
    used = imports()
    assert not {r.name for r in DIRECT if not modules[canonicalize_name(r.name)] & used}


def test_nothing_is_imported_that_is_not_asked_for() -> None:
    """A dependency of a dependency may leave with the next version of it."""
    asked = {canonicalize_name(r.name) for group in (DIRECT, *EXTRAS.values()) for r in group}
    known = packages_distributions()
    for module in imports() - sys.stdlib_module_names - set(PACKAGES):
        # What is not installed here is an extra's, under its own name.
        distributions = [HANDED_OUT[module]] if module in HANDED_OUT else known.get(module, [module])
        assert {canonicalize_name(name) for name in distributions} & asked, module
