"""What goes wrong with a checkpoint's files is an error of its kind, with the file and the reason in words."""

import errno
import zlib
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
from tui_lab.core.training.checkpoint import Checkpoint, Progress
from tui_lab.util.errors import RunError

NOT_THERE = "no such file, or none that ends"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return last_checkpoint()


def test_nothing_is_written_through_a_link(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "checkpoints"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError) as caught:
        ckpt.save(link, checkpoint)
    assert caught.value.errno == errno.ENOTDIR and caught.value.filename == link
    assert caught.value.strerror == "it is a link, and a run is written only within its own folder"
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("words", "number", "reason"),
    [("I/O error: No space left on device (os error 28)", errno.ENOSPC, "No space left on device"),
     ("Permission denied (os error 13)", errno.EACCES, "Permission denied"),
     ("something else", errno.EIO, "something else")],
)  # fmt: skip
def test_what_the_library_says_is_the_systems_error(
    words: str, number: int, reason: str, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tensors: object, path: Path) -> None:
        raise SafetensorError(words)

    monkeypatch.setattr(ckpt, "save_file", refuse)
    with pytest.raises(OSError) as caught:
        ckpt.save(tmp_path, checkpoint)
    assert caught.value.errno == number and caught.value.strerror == reason
    assert str(caught.value.filename).endswith("model.safetensors")


def test_a_checksum_is_of_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "large"
    content = bytes(range(256)) * 4096 * 2 + b"the end"
    file.write_bytes(content)
    assert ckpt.checksum(file) == zlib.crc32(content)


def test_no_file_has_no_checksum_and_no_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ckpt.checksum(tmp_path)
    missing = caught.value
    assert (missing.errno, missing.strerror, missing.filename) == (errno.ENOENT, NOT_THERE, str(tmp_path))
    with pytest.raises(RunError) as told:
        ckpt.load_weights(tmp_path)
    assert str(told.value) == f"{tmp_path}: not readable as safetensors: {missing}"


def test_a_second_copy_is_number_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = ckpt.save(tmp_path, checkpoint).name
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0001"
    (tmp_path / f"{name}.mine").mkdir()
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.0001"


def test_copies_count_on_beyond_a_thousand(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = ckpt.save(tmp_path, checkpoint).name
    (tmp_path / f"{name}.2000").mkdir()
    assert ckpt.save(tmp_path, checkpoint).name == f"{name}.2001"


def test_the_last_weights_are_read_unless_the_best_are_asked_for(checkpoint: Checkpoint, tmp_path: Path) -> None:
    best = {name: tensor + 1 for name, tensor in checkpoint.model.items()}
    path = ckpt.save(tmp_path, replace(checkpoint, best=best))
    for found, expected in ((ckpt.load_model(path), checkpoint.model), (ckpt.load_model(path, best=True), best)):
        assert found[0] == checkpoint.progress and found[1].keys() == expected.keys()
        assert all(torch.equal(found[1][name], tensor) for name, tensor in expected.items())


def test_weights_that_are_read_alone_are_checked_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors: damaged: its checksum is not"):
        ckpt.load_model(path)


def test_a_number_beyond_all_floats_is_told(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, loss_ema="beyond")
    state = path / "state.json"
    state.write_text(state.read_text("utf-8").replace('"beyond"', "-1e999"), "utf-8")
    with pytest.raises(RunError, match="loss_ema = -inf$"):
        ckpt.load(path)


def test_why_an_optimizer_does_not_take_its_state_is_told(checkpoint: Checkpoint) -> None:
    class Refusing(torch.optim.SGD):
        def load_state_dict(self, state_dict: Any) -> None:
            raise ValueError("not mine")

    with pytest.raises(RunError, match=r"^the checkpoint's optimizer does not fit the config: not mine$"):
        ckpt.restore_optimizers([Refusing([torch.zeros(1, requires_grad=True)])], {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"seconds": -0.5}, "seconds = -0.5"), ({"tokens": 2**70}, "tokens = 1180591620717411303424"),
     ({"step": 5, "from_step": 6}, "step = 5 of 8, from 6"), ({"step": "x"}, "step = 'x'")],
)  # fmt: skip
def test_a_state_tells_what_is_wrong_with_it(
    changes: dict[str, Any], words: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    assert checkpoint.progress.config.train.steps == 8
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, **changes)
    with pytest.raises(RunError) as caught:
        ckpt.load(path)
    assert str(caught.value).endswith(f"state.json: not readable as a checkpoint's state: {words}")


def test_what_is_no_table_is_no_state(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    (path / "state.json").write_text("[1]", "utf-8")
    with pytest.raises(RunError, match=r"state: not a checkpoint's state$"):
        ckpt.load(path)


@pytest.mark.parametrize(
    "changes", [{"evaluated_at": -1}, {"tokens": ev.LARGEST}, {"step": 3, "from_step": 3}, {"loss_ema": -0.5}]
)
def test_the_outermost_states_are_read(changes: dict[str, Any], checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = ckpt.save(tmp_path, checkpoint)
    restate(path, **changes)
    found = ckpt.load(path).progress
    assert {key: getattr(found, key) for key in changes} == changes


@pytest.mark.parametrize("name", ["0", "0.0", "1.0.exp_avg", "0.0.exp_avg.more"])
def test_a_foreign_name_in_an_optimizers_state_is_told(name: str, checkpoint: Checkpoint) -> None:
    with pytest.raises(RunError, match=r"^the checkpoint's optimizer does not fit the config: ") as caught:
        trainer(resume=replace(checkpoint, optimizer=checkpoint.optimizer | {name: torch.zeros(1)}))
    assert name.rpartition(".")[2] in str(caught.value)


def test_only_a_mistake_on_purpose_may_change_how_many_weights_there_are() -> None:
    plain, mistaken = tiny(), tiny('faults=["no_mask"]')
    n = count_parameters(plain.model, 10)

    def weights(numbers: int) -> dict[str, torch.Tensor]:
        return {"w": torch.zeros(numbers)}

    ckpt.check_fits(plain, 10, weights(n))
    ckpt.check_fits(mistaken, 10, weights((n + 1) // 2))
    for config, numbers in ((plain, n - 1), (plain, n + 1), (mistaken, (n - 1) // 2)):
        with pytest.raises(RunError, match=f"{numbers:,} parameters, not {n:,}"):
            ckpt.check_fits(config, 10, weights(numbers))


def test_progress_of_a_new_run_is_read_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    new = Progress(checkpoint.progress.config)
    assert ckpt.load_progress(ckpt.save(tmp_path, replace(checkpoint, progress=new))) == new
