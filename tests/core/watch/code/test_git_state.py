"""git may be missing, slow or without a commit: then the commit is not known, and nothing fails."""

import os
import subprocess
from pathlib import Path

import pytest

from tui_lab.core.watch.code import git_state as module
from tui_lab.core.watch.code.git_state import git_state, work_tree_of


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    for arguments in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    return tmp_path


def test_commit_of_the_work_tree_that_a_folder_is_in(work_tree: Path) -> None:
    (work_tree / "a" / "b").mkdir(parents=True)
    assert work_tree_of(work_tree / "a" / "b") == work_tree
    state = git_state(work_tree)
    assert state is not None and len(state.commit) == 40 and state.branch and state.is_dirty is False
    subprocess.run(["git", "-C", str(work_tree), "checkout", "-q", "--detach"], check=True)
    detached = git_state(work_tree)
    assert detached is not None and (detached.commit, detached.branch) == (state.commit, "")


def test_without_a_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    assert git_state(tmp_path) is None


def fake_git(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir()
    program = folder / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_git_that_is_slow_does_not_say_whether_files_differ(
    work_tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    commit = "0" * 40
    script = f'case "$*" in *rev-parse*) echo {commit}; echo main;; *) exec sleep 60;; esac'
    fake_git(tmp_path_factory.mktemp("bin") / "bin", monkeypatch, script)
    monkeypatch.setattr(module, "SECONDS", 0.5)
    state = git_state(work_tree)
    assert state is None or (state.commit, state.is_dirty) == (commit, None)


def test_without_the_program(work_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(work_tree) is None
