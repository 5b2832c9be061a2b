"""Atomic writes: the old or the new file, never half of one, and no temporary files left over."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from tui_lab.util import files


class Interrupted(Exception):
    pass


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(f"{files.TEMPORARY}*"))


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_text(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and not leftovers(tmp_path)


def test_new_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    with pytest.raises(Interrupted), files.new_file(path) as out:
        out.write(b"half")
        raise Interrupted
    assert not path.exists() and not leftovers(path.parent)
    with files.new_file(path) as out:
        out.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"


@pytest.mark.parametrize(("replace", "content"), [(True, "new"), (False, "old")])
def test_new_folder_replaces_or_keeps_an_existing_one(replace: bool, content: str, tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "file").write_text("old")
    with files.new_folder(path, replace=replace) as temporary:
        (temporary / "file").write_text("new")
    assert (path / "file").read_text() == content and not leftovers(tmp_path)


def test_interrupted_new_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), files.new_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("half")
        raise Interrupted
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_a_folder_is_replaced_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rename may be the last one that is made."""
    path = tmp_path / "folder"
    rename = Path.replace
    for n_renames, content in ((0, "old"), (1, "old"), (2, "new")):
        with files.new_folder(path) as temporary:
            (temporary / "file").write_text("old")
        left = n_renames

        def replace(source: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise Interrupted
            left -= 1
            return rename(source, target)

        with monkeypatch.context() as context:
            context.setattr(Path, "replace", replace)
            context.setattr(shutil, "rmtree", lambda path, **options: None)
            with suppress(Interrupted), files.new_folder(path) as temporary:
                (temporary / "file").write_text("new")
        files.sweep_temporaries(tmp_path)
        assert (path / "file").read_text() == content and not leftovers(tmp_path)


def test_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    rename = Path.replace

    def replace(source: Path, target: Path) -> Path:
        if not source.name.startswith(files.REPLACED) and target == path:
            raise PermissionError
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError), files.new_folder(path):
        pass
    assert path.is_dir() and not leftovers(tmp_path)


def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "text", "")
        files.write_text(tmp_path / "private", "", private=True)
        with files.new_file(tmp_path / "file"), files.new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"text": 0o640, "private": 0o600, "file": 0o640, "folder": 0o750}


def test_sweep_temporaries_removes_those_older_than_the_limit(tmp_path: Path) -> None:
    old, young = (tmp_path / f"{files.TEMPORARY}{name}" for name in ("old", "young"))
    for path in (old, young):
        path.mkdir()
    os.utime(old, (0, 0))
    files.sweep_temporaries(tmp_path, older_than=3600)
    assert leftovers(tmp_path) == [young]
    files.sweep_temporaries(tmp_path)
    assert not leftovers(tmp_path)


def test_read_text_refuses_long_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("12345")
    assert files.read_text(tmp_path / "a", 5) == "12345"
    with pytest.raises(ValueError, match="longer"):
        files.read_text(tmp_path / "a", 4)
    with pytest.raises(ValueError, match="regular"):
        files.read_text(tmp_path, 5)
