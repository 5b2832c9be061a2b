import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.core.tiny import last_checkpoint, restate, tiny, trainer
from tui_lab.core.trainer import Trainer
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.training.task_factory import build_task
from tui_lab.util import files
from tui_lab.util.errors import RunError


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Of a run that has been evaluated, so that it has best weights."""
    return last_checkpoint("train.eval_every=4", "optim.betas=[0.8, 0.9]")


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
    with pytest.raises(RunError, match=name):
        ckpt.load(path)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"])
def test_one_flipped_bit_is_told(name: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = ckpt.save(tmp_path, checkpoint) / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}: .*checksum"):
        ckpt.load(file.parent)


def test_a_checkpoint_without_checksums_is_read_as_before(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, "files")
    found = ckpt.load(path)
    assert found.progress == checkpoint.progress and found.best is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [("step", "4"), ("step", -1), ("step", 10**9), ("step", True), ("seconds", None), ("seconds", "NaN"),
     ("tokens", 1.5), ("loss_ema", [1]), ("best_step", 2**70), ("seconds", float("inf")), ("loss_ema", float("nan")),
     ("seconds", -0.5), ("evaluated_at", -2),
     ("from_step", 7.0), ("config", []), ("config", {"model": {"d_model": 0}}),
     ("files", 3), ("files", {"model.safetensors": "x"}), ("surprise", 1)],
)  # fmt: skip
def test_a_state_that_no_training_comes_to_is_told(
    key: str, value: object, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, **{key: value})
    with pytest.raises(RunError, match=r"state\.json: not readable as a checkpoint's state"):
        ckpt.load(path)


def test_a_config_that_asks_for_more_than_the_weights_is_refused_before_anything_is_made(
    checkpoint: Checkpoint,
) -> None:
    huge = tiny("model.d_model=65536", "model.d_ff=1048576", "model.n_layers=1024")
    with pytest.raises(RunError, match="do not fit the config: .* parameters, not"):
        Trainer(huge, build_task(huge), resume=replace(checkpoint, progress=replace(checkpoint.progress, config=huge)))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("x", 1),
        ("0.0.", 1),
        ("7.0.exp_avg", 1),
        ("0.999.exp_avg", 1),
        ("0.0.exp_avg", 3),
        ("0.0.other", 1),
        ("0.x.step", 1),
    ],
)
def test_an_optimizers_state_that_does_not_fit_is_told(name: str, size: int, checkpoint: Checkpoint) -> None:
    with pytest.raises(RunError, match="optimizer does not fit the config"):
        trainer(resume=replace(checkpoint, optimizer=checkpoint.optimizer | {name: torch.zeros(size)}))


def test_weights_of_another_type_are_refused(checkpoint: Checkpoint) -> None:
    halves = {name: tensor.half() for name, tensor in checkpoint.model.items()}
    with pytest.raises(RunError, match=r"torch\.float16, not torch\.float32"):
        trainer(resume=replace(checkpoint, model=halves))


def test_weights_of_another_shape_are_refused_in_words(checkpoint: Checkpoint) -> None:
    other = trainer("model.d_ff=9")
    with pytest.raises(RunError, match="do not fit the config"):
        ckpt.restore_model(other.model, checkpoint.model)


def test_names_sort_as_steps_do() -> None:
    steps = [0, 7, 10, 99_999, 100_000, 99_999_999]
    assert sorted(ckpt.name_of(step) for step in steps) == [ckpt.name_of(step) for step in steps]
    assert ckpt.name_of(7) == "step-00000007"


def test_a_step_saved_a_dozen_times_stays_the_latest(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = ckpt.name_of(checkpoint.progress.step)
    (tmp_path / f"{name}.0009").mkdir()
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0010"
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0011"


def test_only_older_checkpoints_are_removed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    (tmp_path / "kept").mkdir()
    ckpt.save(tmp_path, checkpoint)
    path = ckpt.save(tmp_path, checkpoint)
    assert {found.name for found in tmp_path.iterdir()} == {"notes.txt", "kept", path.name}


def test_without_best_weights_there_is_no_file_of_them(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, replace(checkpoint, best=None))
    assert not (path / "best.safetensors").exists() and ckpt.load(path).best is None


@pytest.mark.parametrize("weight", [torch.arange(6.0).view(3, 2), torch.arange(6.0).view(2, 3).t()])
def test_a_copy_of_weights_is_a_copy_on_its_own(weight: torch.Tensor) -> None:
    parameter = torch.nn.Parameter(weight.clone())
    copied = ckpt.copy_weights({"w": parameter})["w"]
    with torch.no_grad():
        parameter.zero_()
    assert copied.is_contiguous() and not copied.requires_grad
    assert copied.tolist() == weight.tolist()


def test_a_copy_of_an_optimizers_state_is_a_copy_on_its_own() -> None:
    one = trainer()
    one.train_step()
    kept = ckpt.optimizer_tensors(one.optimizers)
    before = {name: tensor.clone() for name, tensor in kept.items()}
    one.train_step()
    assert all(torch.equal(kept[name], before[name]) for name in kept)
    assert any(not torch.equal(kept[name], now) for name, now in ckpt.optimizer_tensors(one.optimizers).items())


def test_an_optimizers_state_comes_back_to_its_own_parameters() -> None:
    """Of two optimizers, each with several parameters: Muon for the matrices, AdamW for the rest."""
    one, other = (trainer("optim.name=muon", f"train.seed={seed}") for seed in (1, 2))
    list(one.events())
    kept = ckpt.optimizer_tensors(one.optimizers)
    assert {name.split(".")[0] for name in kept} == {"0", "1"}
    ckpt.restore_optimizers(other.optimizers, kept)
    again = ckpt.optimizer_tensors(other.optimizers)
    assert again.keys() == kept.keys() and all(torch.equal(again[name], kept[name]) for name in kept)
    for ours, theirs in zip(one.optimizers, other.optimizers, strict=True):
        parameters = [zip(a["params"], b["params"], strict=True)
                      for a, b in zip(ours.param_groups, theirs.param_groups, strict=True)]  # fmt: skip
        for p, q in itertools.chain.from_iterable(parameters):
            assert {n: v.shape for n, v in ours.state[p].items()} == {n: v.shape for n, v in theirs.state[q].items()}
