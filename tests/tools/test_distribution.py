"""What is published: the patterns of pyproject.toml cover the package, a release is checked, the workflows agree."""

import io
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tools.distribution import build, release

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def matches(path: str, pattern: str) -> bool:
    """Whether a path in a package matches a pattern of setuptools, in which ** stands for any number of folders."""
    text = re.escape(pattern).replace(r"\*\*/", "(?:[^/]+/)*").replace(r"\*", "[^/]*")
    return re.fullmatch(text, path) is not None


def test_patterns_cover_every_file_of_the_package() -> None:
    """`make dist` compares real packages with these files; this needs no build."""
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, listed in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in listed
    ]
    files = build.package_files()
    packages = {str(PurePosixPath(name).parent) for name in files if name.endswith("/__init__.py")}
    missing = [
        name
        for name in files
        if not any(matches(name, pattern) for pattern in patterns)
        and not (name.endswith(".py") and str(PurePosixPath(name).parent) in packages)
    ]
    assert sorted(missing) == []


def packages_of(files: set[str], folder: Path) -> tuple[Path, Path]:
    """Write an sdist and a wheel that contain these empty files."""
    sdist, wheel = folder / "x-1.tar.gz", folder / "x-1-py3-none-any.whl"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in files:
            archive.addfile(tarfile.TarInfo(f"x-1/{name}"), io.BytesIO())
    with zipfile.ZipFile(wheel, "w") as zipped:
        for name in [*files, "x-1.dist-info/METADATA"]:
            zipped.writestr(name, "")
    return sdist, wheel


def test_file_too_few_or_too_many_in_a_package_is_reported(tmp_path: Path) -> None:
    files = build.package_files()
    assert build.check_contents(*packages_of(files, tmp_path)) == len(files) > 300
    with pytest.raises(build.WrongContents, match="lacks tui_lab/core/model.py"):
        build.check_contents(*packages_of(files - {"tui_lab/core/model.py"}, tmp_path))
    with pytest.raises(build.WrongContents, match="has tests/secret.py"):
        build.check_contents(*packages_of(files | {"tests/secret.py"}, tmp_path))


def test_links_are_exported_as_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "tracked_files", lambda: ["tui_lab/core", "core/model.py"])
    build.export(tmp_path / "source")
    assert (tmp_path / "source" / "tui_lab" / "core" / "model.py").is_file()


def test_changelog_begins_with_the_version() -> None:
    assert release.newest_entry()[0] == release.version() == PROJECT["project"]["version"]


def test_release_needs_its_tag_and_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    version = release.version()
    monkeypatch.setattr(release, "newest_entry", lambda: (version, "2026-12-01"))
    assert release.problems(f"v{version}") == []
    assert len(release.problems("v99.0.0")) == 1
    monkeypatch.setattr(release, "newest_entry", lambda: ("0.0.9", "unreleased"))
    assert len(release.problems(f"v{version}")) == 2


def workflow(name: str) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text("utf-8"))
    return value


def test_ci_tries_every_python_that_is_declared() -> None:
    declared = {name.rpartition(" ")[2] for name in PROJECT["project"]["classifiers"] if ":: Python :: 3." in name}
    matrix = workflow("ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert declared <= set(matrix["python"]) and {"ubuntu-latest", "macos-latest"} == set(matrix["os"])


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_make_targets_of_workflows_exist(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    steps = [step for job in workflow(name)["jobs"].values() for step in job["steps"]]
    used = {word for step in steps for word in re.findall(r"make ([\w -]+)", step.get("run", ""))}
    assert {target for words in used for target in words.split() if target.islower()} <= targets
