"""No file that was there before changes, and the script reads what it wrote."""

import builtins
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tui_lab.core.watch.unwritten import redirected_files
from tui_lab.core.watch.unwritten.redirected_files import RedirectedFiles

OLD = "the user's"
Change = Callable[[Path], str]
"""Changes a file, and returns its content as the script sees it."""


def _real_content(file: Path) -> str:
    with io.FileIO(file) as opened:
        return opened.read().decode()


class Project:
    """A folder with the user's files, whose content stays readable whatever is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        for name in ("log.txt", "other.txt"):
            (folder / name).write_text(OLD, "utf-8")
        (folder / "runs").mkdir()
        (folder / "runs" / "old.txt").write_text(OLD, "utf-8")

    def content(self) -> dict[str, str]:
        files = [Path(folder) / name for folder, _, names in os.walk(self.folder) for name in names]
        return {str(f.relative_to(self.folder)): _real_content(f) for f in files}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    before = {name: vars(os)[name] for name in ("open", "mkdir", "remove", "unlink", "rename", "replace", "symlink")}
    opening, rmtree = builtins.open, shutil.rmtree
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    RedirectedFiles(str(tmp_path / "copies"), lambda path: project.names.append(Path(path).name)).install()
    try:
        yield project
    finally:
        vars(os).update(before)
        vars(builtins)["open"] = vars(io)["open"] = opening
        vars(shutil)["rmtree"] = rmtree


UNCHANGED = {"log.txt": OLD, "other.txt": OLD, os.path.join("runs", "old.txt"): OLD}


def written(file: Path) -> str:
    with open(file, "w", encoding="utf-8") as opened:
        opened.write("new")
    return file.read_text("utf-8")


def appended(file: Path) -> str:
    for _ in range(2):
        with open(file, "a", encoding="utf-8") as opened:
            opened.write("+")
    return file.read_text("utf-8")


def updated(file: Path) -> str:
    with file.open("r+b") as opened:
        opened.write(b"THE")
    return file.read_text("utf-8")


def written_by_numpy(file: Path) -> str:
    with open(file, "wb") as opened:
        np.arange(3).tofile(opened)
    return str(np.memmap(file, dtype=np.int64, mode="r").tolist())


def dumped(file: Path) -> str:
    file.write_text(json.dumps({"step": 3}), "utf-8")
    return str(json.loads(file.read_bytes())["step"])


def written_by_descriptor(file: Path) -> str:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, b"new")
    os.close(descriptor)
    return file.read_text("utf-8")


def replaced_by_a_new_file(file: Path) -> str:
    temporary = file.with_suffix(".tmp")
    temporary.write_text("new", "utf-8")
    os.replace(temporary, file)
    return file.read_text("utf-8")


def replaced_by_another(file: Path) -> str:
    (file.parent / "other.txt").replace(file)
    assert not _can_read(file.parent / "other.txt")
    return file.read_text("utf-8")


def copied_over(file: Path) -> str:
    shutil.copyfile(file.parent / "other.txt", file)
    return file.read_text("utf-8")


def made_again(file: Path) -> str:
    file.unlink()
    assert not _can_read(file)
    with open(file, "x", encoding="utf-8") as opened:
        opened.write("new")
    return file.read_text("utf-8")


def folder_made_again(file: Path) -> str:
    folder = file.parent / "runs"
    shutil.rmtree(folder)
    folder.mkdir()
    return written(folder / "old.txt")


def through_a_link(file: Path) -> str:
    link = file.parent.parent / "link"
    link.symlink_to(file)
    return written(link) + written(file)


def _can_read(file: Path) -> bool:
    try:
        with open(file, encoding="utf-8"):
            return True
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("change", "content"),
    [
        (written, "new"),
        (appended, OLD + "++"),
        (updated, "THE user's"),
        (written_by_numpy, "[0, 1, 2]"),
        (dumped, "3"),
        (written_by_descriptor, "new"),
        (replaced_by_a_new_file, "new"),
        (replaced_by_another, OLD),
        (copied_over, OLD),
        (made_again, "new"),
        (folder_made_again, "new"),
        (through_a_link, "newnew"),
    ],
)
def test_existing_file_stays_and_the_script_reads_what_it_wrote(change: Change, content: str, project: Project) -> None:
    assert change(project.folder / "log.txt") == content
    assert project.content() == UNCHANGED and project.names


def test_new_files_are_written_changed_and_removed(project: Project) -> None:
    new = project.folder / "logs" / "new.txt"
    new.parent.mkdir()
    assert written(new) == "new" and appended(new) == "new++"
    assert project.content() == {**UNCHANGED, os.path.join("logs", "new.txt"): "new++"}
    new = new.rename(new.with_name("renamed.txt"))
    assert written(new) == "new" and made_again(new) == "new"
    shutil.rmtree(new.parent)
    assert project.content() == UNCHANGED and project.names == []


def test_temporary_files_are_the_script_s_own(project: Project) -> None:
    with tempfile.TemporaryDirectory() as folder:
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        assert written(Path(name)) == "new" and _real_content(Path(name)) == "new"
    assert not os.path.exists(folder) and project.names == []


def test_removed_link_does_not_hide_the_file(project: Project) -> None:
    link = project.folder / "link"
    link.symlink_to("log.txt")
    link.unlink()
    assert not link.exists() or not _can_read(link)
    assert (project.folder / "log.txt").read_text("utf-8") == OLD


def test_existing_file_cannot_be_made(project: Project) -> None:
    with pytest.raises(FileExistsError):
        open(project.folder / "log.txt", "x")  # noqa: SIM115
    with pytest.raises(FileNotFoundError):
        os.replace(project.folder / "none.txt", project.folder / "log.txt")
    assert project.content() == UNCHANGED


def test_large_file_is_neither_copied_nor_changed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redirected_files, "MAX_BYTES", 4)
    with pytest.raises(PermissionError):
        appended(project.folder / "log.txt")
    assert written(project.folder / "log.txt") == "new" and project.content() == UNCHANGED


def test_devices_and_descriptors_are_opened_as_they_are(project: Project) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb") as sink, open(os.devnull, "w") as nothing:
        sink.write(b"x")
        sink.flush()
        assert source.read(1) == b"x" and nothing.write("x") == 1
    assert project.names == []
