"""Damaged checkpoints and failed writes: each is an error of its type that names the file."""

import errno
import stat
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from tests.core.tiny import last_checkpoint, restate, tiny, trainer
from tui_lab.core import events as ev
from tui_lab.core.kernels.parameter_count import count_parameters
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training import tensor_files
from tui_lab.core.training.checkpoint import Checkpoint, Progress
from tui_lab.core.watch import checkpoints
from tui_lab.util.errors import RunError


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return last_checkpoint()


def test_checkpoint_is_not_written_through_a_link(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "checkpoints"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError) as caught:
        ckpt.save(link, checkpoint)
    assert caught.value.errno == errno.ENOTDIR and caught.value.filename == link
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("I/O error: No space left on device (os error 28)", errno.ENOSPC),
        ("Permission denied (os error 13)", errno.EACCES),
        ("something else", errno.EIO),
    ],
)
def test_write_error_of_the_library_becomes_an_os_error(
    message: str, number: int, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tensors: object, path: Path) -> None:
        raise SafetensorError(message)

    monkeypatch.setattr(tensor_files, "save_file", refuse)
    saves: list[Callable[[], Path]] = [
        lambda: ckpt.save(tmp_path, checkpoint),
        lambda: checkpoints.save(tmp_path, 1, torch.nn.Linear(1, 1), []),
    ]
    for save in saves:
        with pytest.raises(OSError) as caught:
            save()
        assert caught.value.errno == number
        assert Path(str(caught.value.filename)).name == "model.safetensors"


@pytest.mark.parametrize(("mode", "expected"), [(0o750, 0o640), (0o700, 0o600)])
def test_who_may_read_a_folder_may_read_its_tensors(mode: int, expected: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    tensor_files.write_tensors(tmp_path / "file", {"a": torch.ones(1)})
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_checksum_covers_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "large"
    content = bytes(range(256)) * 4096 * 2 + b"the end"
    file.write_bytes(content)
    assert ckpt.checksum(file) == zlib.crc32(content)


def test_folder_has_no_checksum_and_no_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ckpt.checksum(tmp_path)
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(RunError) as error:
        ckpt.load_weights(tmp_path)
    assert error.value.problems[0].key == str(tmp_path)


def test_copies_of_a_step_are_numbered(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = ckpt.save(tmp_path, checkpoint).name
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0001"
    (tmp_path / f"{name}.mine").mkdir()
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0001"


def test_numbers_of_copies_go_beyond_a_thousand(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = ckpt.save(tmp_path, checkpoint).name
    (tmp_path / f"{name}.2000").mkdir()
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.2001"


def test_load_model_reads_the_last_weights_or_the_best(checkpoint: Checkpoint, tmp_path: Path) -> None:
    best = {name: tensor + 1 for name, tensor in checkpoint.model.items()}
    path = ckpt.save(tmp_path, replace(checkpoint, best=best))
    for loaded, expected in ((ckpt.load_model(path), checkpoint.model), (ckpt.load_model(path, best=True), best)):
        progress, weights = loaded
        assert progress == checkpoint.progress and weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_load_model_checks_the_checksum(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = ckpt.save(tmp_path, checkpoint) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError) as caught:
        ckpt.load_model(file.parent)
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(file))


def test_infinity_in_the_state_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, loss_ema="beyond")
    state = path / "state.json"
    state.write_text(state.read_text("utf-8").replace('"beyond"', "-1e999"), "utf-8")
    with pytest.raises(RunError) as caught:
        ckpt.load(path)
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(state))


def test_optimizer_that_refuses_its_state_is_a_run_error(checkpoint: Checkpoint) -> None:
    class Refusing(torch.optim.SGD):
        def load_state_dict(self, state_dict: Any) -> None:
            raise ValueError("not mine")

    with pytest.raises(RunError, match="not mine") as caught:
        ckpt.restore_optimizers([Refusing([torch.zeros(1, requires_grad=True)])], {})
    assert caught.value.code == "conflict"


@pytest.mark.parametrize(
    "changes", [{"evaluated_at": -1}, {"tokens": ev.LARGEST}, {"step": 3, "from_step": 3}, {"loss_ema": -0.5}]
)
def test_state_at_the_bounds_is_read(changes: dict[str, Any], checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, **changes)
    progress = ckpt.load(path).progress
    assert {key: getattr(progress, key) for key in changes} == changes


@pytest.mark.parametrize("name", ["0", "0.0", "1.0.exp_avg", "0.0.exp_avg.more"])
def test_unknown_entry_of_the_optimizer_state_is_refused(name: str, checkpoint: Checkpoint) -> None:
    with pytest.raises(RunError) as caught:
        trainer(resume=replace(checkpoint, optimizer=checkpoint.optimizer | {name: torch.zeros(1)}))
    assert caught.value.code == "conflict"


def test_only_a_planted_fault_may_change_the_number_of_weights() -> None:
    plain = tiny()
    faulty = tiny('faults=["no_mask"]')
    n = count_parameters(plain.model, 10)

    def weights(numbers: int) -> dict[str, torch.Tensor]:
        return {"w": torch.zeros(numbers)}

    ckpt.check_fits(plain, 10, weights(n))
    ckpt.check_fits(faulty, 10, weights((n + 1) // 2))
    for config, numbers in ((plain, n - 1), (plain, n + 1), (faulty, (n - 1) // 2)):
        with pytest.raises(RunError) as caught:
            ckpt.check_fits(config, 10, weights(numbers))
        assert caught.value.code == "conflict"


def test_progress_of_a_new_run_is_read_unchanged(checkpoint: Checkpoint, tmp_path: Path) -> None:
    new = Progress(checkpoint.progress.config)
    assert ckpt.load_progress(ckpt.save(tmp_path, replace(checkpoint, progress=new))) == new
