"""A script that is one of several runs changes no existing file, and reads what it wrote itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from tui_lab.core.watch.unwritten.changed_files import ChangedFiles
ChangedFiles(os.path.abspath("trial/files"), free=os.path.abspath("trial")).install()
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
one = {"a": torch.ones(1)}
os.makedirs("out", exist_ok=True)
for path in ("old.pt", "new.pt", "trial/own.pt", "out/old.pt"):
    torch.save(one, f=path)
    assert torch.load(path)["a"] == 1
for path in ("old.safetensors", "new.safetensors"):
    save_file(one, path)
    assert load_file(path)["a"] == 1
    with safe_open(path, framework="pt") as opened:
        assert opened.get_tensor("a") == 1
"""


def test_existing_files_stay_and_the_script_reads_its_own(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    old = ("old.pt", "old.safetensors", "trial/own.pt", "out/old.pt")
    for name in old:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("the user's", "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, check=True)
    unchanged = {name for name in old if (tmp_path / name).read_bytes() == b"the user's"}
    assert unchanged == {"old.pt", "old.safetensors", "out/old.pt"}, "the trial's folder is free"
    copies = tmp_path / "trial" / "files"
    names = {path.relative_to(copies).as_posix() for path in copies.rglob("*") if path.is_file()}
    assert names == unchanged
    assert (tmp_path / "new.pt").is_file() and (tmp_path / "new.safetensors").is_file()
