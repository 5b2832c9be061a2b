"""Keys of a config that have another name now. The old name is still read: from files, run folders and --set."""

from collections.abc import Mapping
from typing import Any

from tui_lab.util.errors import ConfigError

RENAMED: dict[str, str] = {}
"""The dotted key of now by the old one. An entry stays for good; docs/contracts.md says how it is announced."""


class RenamedKeyWarning(FutureWarning):
    """Somebody uses an old key. The command line shows it as a notice."""


def current(key: str) -> str:
    """Return the name that a dotted key has now."""
    return RENAMED.get(key, key)


def old_keys(tables: Mapping[str, Any]) -> list[str]:
    """Return the old keys that the tables of a config use."""
    return [old for old in RENAMED if _has(tables, old)]


def notice(old: str) -> str:
    """Return what to tell somebody who uses an old key."""
    return f"{old} is now called {RENAMED[old]}; the old name still works"


def with_current_keys(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tables of a config with the present keys. Raises ConfigError where both names are set."""
    used = old_keys(tables)
    if not used:
        return tables
    copied = {name: dict(value) if isinstance(value, Mapping) else value for name, value in tables.items()}
    for old in used:
        new = RENAMED[old]
        if _has(copied, new):
            raise ConfigError.of("conflict", f"is the old name of {new}, which is set too; remove one", key=old)
        section, _, name = old.rpartition(".")
        value = (copied[section] if section else copied).pop(name)
        new_section, _, new_name = new.rpartition(".")
        (copied.setdefault(new_section, {}) if new_section else copied)[new_name] = value
    return copied


def _has(tables: Mapping[str, Any], key: str) -> bool:
    section, _, name = key.rpartition(".")
    table = tables.get(section) if section else tables
    return isinstance(table, Mapping) and name in table
