"""Files that a script makes while it trains are moved; those from before stay."""

from pathlib import Path

import pytest

from tui_lab.core.watch.unwritten.created_files import CreatedFiles, move_created_files


def test_what_is_made_in_training_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    trial = project / "trial"
    for name in ("cache.bin", "best.pt", "out/step-1/model.pt", "trial/own.pt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name, "utf-8")
    (trial / "files" / "out").mkdir(parents=True)
    (trial / "files" / "best.pt").write_text("a copy", "utf-8")
    monkeypatch.chdir(project)
    has_trained: list[bool] = []
    files = CreatedFiles(str(trial / "list"), lambda: bool(has_trained), apart=str(trial))
    files.add(str(project / "cache.bin"))
    has_trained.append(True)
    for path in ("best.pt", "out", "out/step-1", "trial/own.pt", "removed.pt", "../elsewhere.pt"):
        files.add(str((project / path).resolve()))
    with (trial / "list").open("a", encoding="utf-8") as listed:
        listed.write('{"path": "cut off')
    move_created_files(trial / "list", project, trial / "files")
    left = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    moved = {"best.pt", "2-best.pt", "out/step-1/model.pt"}
    assert left == {"cache.bin", "trial/own.pt", *(f"trial/files/{name}" for name in moved)}
    assert not (project / "out").exists() and (trial / "files" / "best.pt").read_text("utf-8") == "a copy"
    move_created_files(trial / "list", project, trial / "files")
