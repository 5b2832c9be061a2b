"""Versions of Python, of tui-lab and of the packages it needs, compared with the versions it allows."""

import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.util import contracts
from tui_lab.util.extras import Installer, installer


@dataclass(frozen=True)
class Requirement:
    """One requirement of tui-lab. bounds: such as ">=2.11,<3"; extra: the extra that it belongs to, or ""."""

    name: str
    bounds: str
    extra: str

    @property
    def installed(self) -> str | None:
        """The installed version; None if there is none."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None

    @property
    def is_met(self) -> bool:
        version = self.installed
        return version is not None and allows(self.bounds, version)


def requirements() -> Iterator[Requirement]:
    """Yield the requirements of the installed tui-lab, those of its extras included."""
    for line in metadata.requires("tui-lab") or ():
        text, _, marker = line.partition(";")
        match = re.fullmatch(r"\s*([\w.-]+)(?:\[[\w,-]*\])?\s*\(?([^()]*?)\)?\s*", text)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if match is not None and match[1] != "tui-lab":
            yield Requirement(match[1], match[2], extra[1] if extra else "")


def allows(bounds: str, version: str) -> bool:
    """Return whether `bounds`, of the form ">=2.11,<3", allow a version; other bounds count as allowed."""
    for bound in filter(None, bounds.split(",")):
        match = re.fullmatch(r"\s*(>=|<)\s*([\d.]+)\s*", bound)
        if match is None:
            continue
        is_at_least = _release(version) >= _release(match[2])
        if is_at_least != (match[1] == ">="):
            return False
    return True


def _release(version: str) -> list[int]:
    """Return the numbers of a version, without what follows them: 2.13.0+cpu is 2.13, as 2.13.0 is."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


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
        if requirement.extra:
            continue
        figures[requirement.name] = requirement.installed
        if not requirement.is_met:
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
    version = requirement.installed
    state = "is not installed" if version is None else f"{version} is installed, {requirement.bounds} is needed"
    command = f'{Path(sys.executable).name} -m pip install "{requirement.name}{requirement.bounds}"'
    return Missing(requirement.name, f"{requirement.name} {state}", _REINSTALL.get(installer(), command), needed=True)
