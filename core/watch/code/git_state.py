"""The git commit of a folder, from the program `git`, which may be missing or slow."""

import os
import subprocess
from pathlib import Path

from tui_lab.core.runs.code import GitState

SECONDS = 2.0
"""For each of the two calls of git; it takes longer in a very large repository or on a slow disk."""
_QUIET = ("--no-optional-locks", "-c", "core.fsmonitor=false")
"""git writes nothing and starts no program of the repository's settings."""


def work_tree_of(folder: Path) -> Path | None:
    """Return the git work tree that `folder` is in, found without git; None if it is in none."""
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)


def git_state(work_tree: Path) -> GitState | None:
    """Return the commit of a work tree; None where git cannot say it."""
    head = _git(work_tree, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:  # Without git, without a commit, or owned by somebody else.
        return None
    commit, _, branch = head.strip().partition("\n")
    changed = _git(work_tree, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    is_dirty = None if changed is None else bool(changed.strip())
    return GitState(commit, "" if branch == "HEAD" else branch, is_dirty)


def _git(work_tree: Path, *arguments: str) -> str | None:
    """Return what git prints; None where it fails or takes too long."""
    # Of a hook of git that trains, these would name the repository of the hook.
    environment = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
    try:
        done = subprocess.run(
            ["git", *_QUIET, "-C", str(work_tree), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
