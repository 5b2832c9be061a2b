"""Python processes started by tui-lab never import from the current folder, whatever PYTHONPATH is."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tui_lab.util.child import child_environment, kill_tree, python_module, shell_command


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder whose this.py, named like a module of the standard library, leaves a mark when it runs."""
    (tmp_path / "this.py").write_text("open('ran', 'w').close()\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [None, "", ".", "{here}", f"{os.pathsep}{{here}}/", f"nowhere{os.pathsep}."])
def test_child_does_not_import_from_the_current_folder(
    path: str | None, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path.format(here=planted))
    subprocess.run(python_module("this"), env=child_environment(), check=True, capture_output=True)
    subprocess.run(shlex.split(shell_command("this")), check=True, capture_output=True)
    assert not (planted / "ran").exists()


def test_child_keeps_other_folders_of_pythonpath(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = planted / "lib"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(planted), str(other), "", "lib"]))
    assert child_environment(A="b")["PYTHONPATH"] == os.pathsep.join([str(other), "lib"])
    assert child_environment(A="b")["A"] == "b"


def test_killed_tree_has_no_process_left() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 1000 & echo started; wait"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as output:
        assert output.readline() == b"started\n"
        kill_tree(child)
        assert output.read() == b"", "which ends when no process has it open"
    kill_tree(child)
    assert child.returncode < 0


def test_only_answers_are_on_the_stdout_of_a_worker() -> None:
    code = (
        "import os; from tui_lab.util.child import take_stdout; out = take_stdout(); "
        "print('a'); os.system('echo b'); os.write(1, b'c'); out.write('answer'); out.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "answer" and all(letter in done.stderr for letter in "abc")
