"""Versions of Python, of tui-lab and of the packages it needs, compared with the versions it allows."""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.util import contracts
from tui_lab.util.extras import Installer, installer


def requirements(extra: str = "") -> Iterator[Requirement]:
    """Yield the requirements of the installed tui-lab; with `extra`, those that it adds."""
    for requirement in map(Requirement, metadata.requires("tui-lab") or ()):
        if requirement.name != "tui-lab" and _is_added_by(extra, requirement.marker):
            yield requirement


def _is_added_by(extra: str, marker: Marker | None) -> bool:
    if marker is None:
        return not extra
    return marker.evaluate({"extra": extra}) and not (extra and marker.evaluate({"extra": ""}))


def installed_version(requirement: Requirement) -> str | None:
    """Return the installed version; None if there is none."""
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def is_met(requirement: Requirement) -> bool:
    """Return whether an allowed version is installed. A pre-release, such as a nightly build of torch, is allowed."""
    try:
        version = Version(installed_version(requirement) or "")
    except InvalidVersion:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def section() -> Section:
    """Return the versions. A package that is missing or too old is needed."""
    figures: dict[str, Figure] = {
        "tui-lab": metadata.version("tui-lab"),
        "installed by": installer(),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    missing = []
    for requirement in sorted(requirements(), key=lambda r: r.name):
        figures[requirement.name] = installed_version(requirement)
        if not is_met(requirement):
            missing.append(_package_missing(requirement))
    return Section("versions", figures, tuple(missing))


def contracts_section() -> Section:
    """Return the versions of what others may rely on."""
    return Section("contracts", dict(contracts.VERSIONS))


_REINSTALL: dict[Installer, str] = {
    "pipx": "pipx reinstall tui-lab",
    "uv": "uv tool upgrade --reinstall tui-lab",
    "checkout": "make install",
}


def _package_missing(requirement: Requirement) -> Missing:
    version = installed_version(requirement)
    state = "is not installed" if version is None else f"{version} is installed, {requirement.specifier} is needed"
    command = f'{Path(sys.executable).name} -m pip install "{requirement.name}{requirement.specifier}"'
    return Missing(requirement.name, f"{requirement.name} {state}", _REINSTALL.get(installer(), command), needed=True)
