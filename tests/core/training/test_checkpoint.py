"""Checkpoints: written atomically, read back exactly, and refused where they are damaged."""

import itertools
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.core.tiny import last_checkpoint, restate, tiny, trainer
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training import checkpoint_spread
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.training.checkpoint_names import n_bytes, name_of
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.util import files
from tui_lab.util.errors import RunError


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """With best weights that are not the last ones, so that they are a file of their own."""
    last = last_checkpoint("train.eval_every=4", "optim.betas=[0.8, 0.9]")
    return replace(last, best={name: -weights for name, weights in last.model.items()})


def test_checkpoint_is_read_back_exactly(checkpoint: Checkpoint, tmp_path: Path) -> None:
    loaded = ckpt.load(ckpt.save(tmp_path, checkpoint))
    assert loaded.progress == checkpoint.progress
    assert loaded.best is not None and checkpoint.best is not None
    for weights, expected in (
        (loaded.model, checkpoint.model),
        (loaded.optimizer, checkpoint.optimizer),
        (loaded.best, checkpoint.best),
    ):
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("has_links", [True, False])
def test_weights_that_are_the_best_take_their_space_once(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError

    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    model = checkpoint.model
    different = ckpt.save(tmp_path, at(checkpoint, 2))
    same = ckpt.save(
        tmp_path, replace(at(checkpoint, 3), best={name: tensor.clone() for name, tensor in model.items()})
    )
    size = (same / "best.safetensors").stat().st_size
    # state.json differs by a few digits.
    assert abs(n_bytes(different) - n_bytes(same) - (size if has_links else 0)) < 100
    loaded = ckpt.load(same).best
    assert loaded is not None and all(torch.equal(loaded[name], model[name]) for name in model)


def test_checkpoint_has_only_safetensors_and_json(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}


def at(checkpoint: Checkpoint, step: int, *, loss: float | None = None, by_hand: bool = False) -> Checkpoint:
    """`checkpoint` at another step. loss: of the evaluation of that step, if it is the best."""
    progress = replace(checkpoint.progress, step=step, best_step=1 if loss is None else step, best_val_loss=loss)
    return replace(checkpoint, progress=progress, by_hand=by_hand)


def test_newest_best_and_those_saved_by_hand_are_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def steps(*saved: Checkpoint) -> list[int]:
        for one in saved:
            ckpt.save(tmp_path, one, spread_bytes=0)
        return sorted(ckpt.load_progress(path).step for path in tmp_path.iterdir())

    limit = checkpoint.progress.config.train.steps
    assert limit == 8
    assert steps(at(checkpoint, 2), at(checkpoint, 3)) == [3]
    assert steps(at(checkpoint, 4, loss=1.0), at(checkpoint, 5)) == [4, 5], "the best"
    assert steps(at(checkpoint, 5, by_hand=True), at(checkpoint, 6, loss=0.5)) == [5, 6], "a better one"
    assert steps(at(checkpoint, 7), at(checkpoint, 8)) == [5, 6, 8]
    assert [ckpt.load(path).by_hand for path in sorted(tmp_path.iterdir())] == [True, False, False]


def test_others_are_kept_evenly_spread_within_their_limits(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def step(path: Path) -> int:
        return int(path.name.removeprefix("step-"))

    paths = [ckpt.save(tmp_path, at(checkpoint, n)) for n in range(1, 13)]
    assert len(list(tmp_path.iterdir())) == 1 + checkpoint_spread.MOST
    kept = sorted(map(step, tmp_path.iterdir()))
    assert kept[-1] == 12 and max(b - a for a, b in pairwise([0, *kept])) <= 3
    size = n_bytes(paths[-1])
    ckpt.save(tmp_path, at(checkpoint, 13), spread_bytes=2 * size + size // 2)
    assert len(list(tmp_path.iterdir())) == 3


def test_step_saved_by_hand_stays_so_when_it_is_saved_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    ckpt.save(tmp_path, at(checkpoint, 5, by_hand=True))
    again = ckpt.save(tmp_path, at(checkpoint, 5))
    last = ckpt.save(tmp_path, at(checkpoint, 6))
    assert set(tmp_path.iterdir()) == {again, last} and ckpt.load(again).by_hand


def test_step_saved_again_is_the_latest(checkpoint: Checkpoint, tmp_path: Path) -> None:
    ckpt.save(tmp_path, checkpoint)
    for tokens in (1, 2, 3):
        again = replace(checkpoint, progress=replace(checkpoint.progress, tokens=tokens))
        path = ckpt.save(tmp_path, again)
        assert list(tmp_path.iterdir()) == [path] and ckpt.load(path).progress.tokens == tokens


def test_failed_write_leaves_the_old_checkpoint_only(
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
def test_damaged_file_is_named_in_the_error(name: str, damage: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    file = path / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:40] if damage == "cut" else b"")
    with pytest.raises(RunError) as caught:
        ckpt.load(path)
    assert caught.value.problems[0].key == str(file)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"])
def test_one_flipped_bit_is_an_error(name: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = ckpt.save(tmp_path, checkpoint) / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)
    with pytest.raises(RunError) as caught:
        ckpt.load(file.parent)
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(file))


def test_old_checkpoint_without_checksums_is_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, "files")
    loaded = ckpt.load(path)
    assert loaded.progress == checkpoint.progress and loaded.best is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", "4"),
        ("step", -1),
        ("step", 10**9),
        ("step", True),
        ("from_step", 7.0),
        ("from_step", 9),
        ("tokens", 1.5),
        ("tokens", 2**70),
        ("seconds", None),
        ("seconds", "NaN"),
        ("seconds", -0.5),
        ("seconds", float("inf")),
        ("loss_ema", [1]),
        ("loss_ema", float("nan")),
        ("best_step", 2**70),
        ("evaluated_at", -2),
        ("config", []),
        ("config", {"model": {"d_model": 0}}),
        ("files", 3),
        ("files", {"model.safetensors": "x"}),
        ("surprise", 1),
    ],
)
def test_impossible_state_is_refused(key: str, value: object, checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, **{key: value})
    with pytest.raises(RunError) as caught:
        ckpt.load(path)
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(path / "state.json"))


def test_state_that_is_not_a_table_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    (path / "state.json").write_text("[1]", "utf-8")
    with pytest.raises(RunError) as caught:
        ckpt.load(path)
    assert caught.value.code == "damaged"


def test_config_larger_than_the_weights_is_refused_before_the_model_is_built(
    checkpoint: Checkpoint,
) -> None:
    huge = tiny("model.d_model=65536", "model.d_ff=1048576", "model.n_layers=1024")
    with pytest.raises(RunError, match="140,741,046,108,165"):
        set_up(huge, build_task(huge), replace(checkpoint, progress=replace(checkpoint.progress, config=huge)))


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
def test_optimizer_state_that_does_not_fit_is_refused(name: str, size: int, checkpoint: Checkpoint) -> None:
    with pytest.raises(RunError) as caught:
        trainer(resume=replace(checkpoint, optimizer=checkpoint.optimizer | {name: torch.zeros(size)}))
    assert caught.value.code == "conflict"


def test_weights_of_another_dtype_are_refused(checkpoint: Checkpoint) -> None:
    halves = {name: tensor.half() for name, tensor in checkpoint.model.items()}
    with pytest.raises(RunError, match=r"torch\.float16, not torch\.float32"):
        trainer(resume=replace(checkpoint, model=halves))


def test_weights_of_another_shape_are_refused(checkpoint: Checkpoint) -> None:
    other = trainer("model.d_ff=9")
    with pytest.raises(RunError) as caught:
        ckpt.restore_model(other.model, checkpoint.model)
    assert caught.value.code == "conflict"


def test_checkpoint_names_sort_by_step() -> None:
    steps = [0, 7, 10, 99_999, 100_000, 99_999_999]
    assert sorted(name_of(step) for step in steps) == [name_of(step) for step in steps]
    assert name_of(7) == "step-00000007"


def test_step_saved_a_dozen_times_stays_the_latest(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = name_of(checkpoint.progress.step)
    (tmp_path / f"{name}.0009").mkdir()
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0010"
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0011"


def test_save_removes_only_older_checkpoints(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    (tmp_path / "kept").mkdir()
    ckpt.save(tmp_path, checkpoint)
    path = ckpt.save(tmp_path, checkpoint)
    assert {entry.name for entry in tmp_path.iterdir()} == {"notes.txt", "kept", path.name}


def test_checkpoint_without_best_weights_has_no_file_for_them(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, replace(checkpoint, best=None))
    assert not (path / "best.safetensors").exists() and ckpt.load(path).best is None


@pytest.mark.parametrize("weight", [torch.arange(6.0).view(3, 2), torch.arange(6.0).view(2, 3).t()])
def test_copied_weights_are_independent(weight: torch.Tensor) -> None:
    parameter = torch.nn.Parameter(weight.clone())
    copied = ckpt.copy_weights({"w": parameter})["w"]
    with torch.no_grad():
        parameter.zero_()
    assert copied.is_contiguous() and not copied.requires_grad
    assert copied.tolist() == weight.tolist()


def test_copied_optimizer_state_is_independent() -> None:
    one = trainer()
    one.train_step()
    kept = ckpt.optimizer_tensors(one.optimizers)
    before = {name: tensor.clone() for name, tensor in kept.items()}
    one.train_step()
    assert all(torch.equal(kept[name], before[name]) for name in kept)
    assert any(not torch.equal(kept[name], now) for name, now in ckpt.optimizer_tensors(one.optimizers).items())


def test_optimizer_state_is_restored_to_its_own_parameters() -> None:
    """Muon for the matrices and AdamW for the rest: two optimizers with several parameters each."""
    one, other = (trainer("optim.name=muon", f"train.seed={seed}") for seed in (1, 2))
    list(one.events())
    kept = ckpt.optimizer_tensors(one.optimizers)
    assert {name.split(".")[0] for name in kept} == {"0", "1"}
    ckpt.restore_optimizers(other.optimizers, kept)
    again = ckpt.optimizer_tensors(other.optimizers)
    assert again.keys() == kept.keys() and all(torch.equal(again[name], kept[name]) for name in kept)
    for ours, theirs in zip(one.optimizers, other.optimizers, strict=True):
        parameters = [
            zip(a["params"], b["params"], strict=True)
            for a, b in zip(ours.param_groups, theirs.param_groups, strict=True)
        ]
        for p, q in itertools.chain.from_iterable(parameters):
            assert {n: v.shape for n, v in ours.state[p].items()} == {n: v.shape for n, v in theirs.state[q].items()}
