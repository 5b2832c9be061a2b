"""Memory, disk, and the folders that tui-lab writes to."""

import os
import shutil
import tempfile
from pathlib import Path

import psutil

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.core.runs.folder import runs_folder
from tui_lab.util.cache import cache_folder, config_folder

GIB = 2**30
LEAST_DISK = GIB
LEAST_MEMORY = GIB
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says how much memory a container may use: control groups of version 2 and 1."""


def memory() -> Section:
    """Return the memory of the machine, and the limit of the container if it has a smaller one."""
    machine = psutil.virtual_memory()
    limit = memory_limit()
    available = machine.available if limit is None else min(machine.available, limit)
    figures: dict[str, Figure] = {"total": gib(machine.total), "available": gib(available)}
    if limit is not None and limit < machine.total:
        figures["limit of the container"] = gib(limit)
    if available >= LEAST_MEMORY:
        return Section("memory", figures)
    fix = "End other programs, or train a smaller model: torch alone takes 0.3 GiB."
    return Section("memory", figures, (Missing("available", f"{gib(available)} are available", fix),))


def memory_limit(files: tuple[Path, ...] = CGROUP_LIMITS) -> int | None:
    """Return the bytes that this control group may use; None without a limit."""
    for path in files:
        try:
            text = path.read_text("ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() and int(text) < 2**60 else None
    return None


def folders() -> Section:
    """Return the folders with the free space of their disks. One that cannot be written is missing."""
    places = {
        "runs": (runs_folder(), "TUI_LAB_RUNS", True),
        "cache": (cache_folder(), "TUI_LAB_CACHE", False),
        "config": (config_folder(), "TUI_LAB_CONFIG", False),
        "temporary files": (Path(tempfile.gettempdir()), "TMPDIR", False),
    }
    figures: dict[str, Figure] = {}
    missing = []
    for name, (path, variable, needed) in places.items():
        existing = nearest_existing(path)
        free = shutil.disk_usage(existing).free
        state = "" if path.exists() else ", not created yet"
        figures[name] = f"{path.absolute()} ({gib(free)} free{state})"
        if not os.access(existing, os.W_OK | os.X_OK):
            message = f"{existing} cannot be written"
            missing.append(Missing(name, message, f"Set {variable} to another folder.", needed))
        elif free < LEAST_DISK:
            message = f"{gib(free)} are free for {path.absolute()}"
            missing.append(Missing(name, message, f"Free some space, or set {variable} to another folder."))
    return Section("folders", figures, tuple(missing))


def nearest_existing(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def gib(n_bytes: int) -> str:
    return f"{n_bytes / GIB:.1f} GiB"
