"""The Makefile pins torch, which is not in the locks, since each machine chooses its own build; the locks agree."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def test_makefile_pins_a_torch_that_pyproject_allows() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    (allowed,) = (r.specifier for r in map(Requirement, dependencies) if r.name == "torch")
    (pinned,) = re.findall(r"^TORCH \?= torch==(\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert pinned in allowed


def pins(lock: str) -> set[str]:
    """Return the lines `name==version` of a lock."""
    return set(re.findall(r"^([\w.-]+==[^\s;]+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE))


def test_what_a_run_needs_is_pinned_as_it_is_tested() -> None:
    """`make run` installs a part of what `make test` installs."""
    assert pins("requirements-run.lock") < pins("requirements.lock")
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    needed = {Requirement(line).name for line in dependencies} - {"torch"}
    assert needed <= {pin.partition("==")[0] for pin in pins("requirements-run.lock")}
