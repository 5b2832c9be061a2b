from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core import checkpoint as ckpt
from core import files
from core.checkpoint import Checkpoint
from core.errors import RunError
from tests.core.tiny import trainer


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Of a run that has been evaluated, so that it has best weights."""
    kept: list[Checkpoint] = []

    def keep(state: Checkpoint) -> str:
        kept.append(state)
        return "kept"

    list(trainer("train.eval_every=4", "optim.betas=[0.8, 0.9]", save=keep).events())
    return kept[-1]


def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    found = ckpt.load(ckpt.save(tmp_path, checkpoint))
    assert found.progress == checkpoint.progress
    assert found.best is not None and checkpoint.best is not None
    for ours, theirs in ((found.model, checkpoint.model), (found.optimizer, checkpoint.optimizer),
                         (found.best, checkpoint.best)):  # fmt: skip
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_nothing_is_pickled(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}


def test_a_later_checkpoint_replaces_the_older(checkpoint: Checkpoint, tmp_path: Path) -> None:
    ckpt.save(tmp_path, checkpoint)
    later = replace(checkpoint, progress=replace(checkpoint.progress, step=99))
    path = ckpt.save(tmp_path, later)
    assert list(tmp_path.iterdir()) == [path]


def test_a_step_saved_again_is_the_latest(checkpoint: Checkpoint, tmp_path: Path) -> None:
    ckpt.save(tmp_path, checkpoint)
    for tokens in (1, 2, 3):
        again = replace(checkpoint, progress=replace(checkpoint.progress, tokens=tokens))
        path = ckpt.save(tmp_path, again)
        assert list(tmp_path.iterdir()) == [path] and ckpt.load(path).progress.tokens == tokens


def test_a_write_that_fails_leaves_the_old_one_and_no_litter(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ckpt.save(tmp_path, checkpoint)

    def full(path: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        ckpt.save(tmp_path, replace(checkpoint, progress=replace(checkpoint.progress, step=99)))
    assert list(tmp_path.iterdir()) == [path]
    assert ckpt.load(path).progress == checkpoint.progress


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_damage_is_told_with_the_files_name(name: str, damage: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    file = path / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:40] if damage == "cut" else b"")
    if (name, damage) == ("best.safetensors", "gone"):
        assert ckpt.load(path).best is None
    else:
        with pytest.raises(RunError, match=name):
            ckpt.load(path)


def test_weights_of_another_shape_are_refused_in_words(checkpoint: Checkpoint) -> None:
    other = trainer("model.d_ff=9")
    with pytest.raises(RunError, match="do not fit the config"):
        ckpt.restore_model(other.model, checkpoint.model)
