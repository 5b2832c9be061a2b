"""Checkpoints: a folder of safetensors and JSON, written whole or not at all. No pickle."""

import errno
import math
import os
import re
import zlib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.parameter_count import count_parameters
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.strict_json import sealed, unsealed

MODEL, OPTIMIZER, BEST = "model.safetensors", "optimizer.safetensors", "best.safetensors"
STATE = "state.json"
LARGEST_STATE = 2**20
"""Bytes."""
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """All of a training's state that is no tensor. Batches and dropout follow from the seed and the step."""

    config: Config
    """With the live changes made so far."""
    step: int = 0
    from_step: int = 0
    from_draw: int = 0
    """Where the loader's present settings began."""
    tokens: int = 0
    seconds: float = 0.0
    """Time spent in updates."""
    loss_ema: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    worse_evaluations: int = 0
    evaluated_at: int = -1


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on. `best` holds the weights of the best validation loss, if any."""

    progress: Progress
    model: Weights
    optimizer: Weights
    best: Weights | None


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder`/step-N whole, then remove the older ones. Raises OSError with the old ones intact."""
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a link, and a run is written only within its own folder", folder)
    path = _free(folder / name_of(checkpoint.progress.step))
    tensors = {MODEL: checkpoint.model, OPTIMIZER: checkpoint.optimizer, BEST: checkpoint.best}
    with files.new_folder(path) as temporary:
        sums = {name: _write(temporary / name, found) for name, found in tensors.items() if found is not None}
        values = asdict(checkpoint.progress) | {"config": checkpoint.progress.config.model_dump(mode="json")}
        (temporary / STATE).write_text(sealed(values | {"files": sums}, indent=1), "utf-8")
    for older in folder.glob("step-*"):
        if older != path:
            files.remove(older)
    return path


def _write(path: Path, tensors: Weights) -> int:
    """Write a safetensors file; its checksum. Raises OSError, which the library wraps in words."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from error
    return checksum(path)


def checksum(path: Path) -> int:
    """CRC-32 of a regular file, in bounded memory: it finds every flipped bit. Raises OSError."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file, or none that ends", str(path))
    found = 0
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            found = zlib.crc32(chunk, found)
    return found


def _free(path: Path) -> Path:
    """`path`, or one that sorts after it: a step saved again never removes its only copy before the new one stands."""
    taken = sorted(path.parent.glob(f"{path.name}*"))
    if not taken:
        return path
    number = taken[-1].suffix[1:]
    return path.with_name(f"{path.name}.{(int(number) if number.isdecimal() else 0) + 1:04d}")


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises RunError when it is damaged."""
    progress, sums = _read_state(path)
    best = BEST in sums if sums is not None else (path / BEST).exists()
    return Checkpoint(
        progress=progress,
        model=_read_weights(path, MODEL, sums),
        optimizer=_read_weights(path, OPTIMIZER, sums),
        best=_read_weights(path, BEST, sums) if best else None,
    )


def load_progress(path: Path) -> Progress:
    """Raises RunError."""
    return _read_state(path)[0]


def load_model(path: Path, *, best: bool = False) -> tuple[Progress, Weights]:
    """The last weights of a checkpoint, or the best ones. Raises RunError."""
    progress, sums = _read_state(path)
    return progress, _read_weights(path, BEST if best else MODEL, sums)


def _read_state(path: Path) -> tuple[Progress, dict[str, int] | None]:
    """What state.json says, with the checksums of the other files; none where it was written before there were any."""
    try:
        values, _ = unsealed(files.read_text(path / STATE, LARGEST_STATE))
        if not isinstance(values, dict):
            raise ValueError("not a checkpoint's state")
        sums = values.pop("files", None)
        if sums is not None:
            sums = {str(name): int(found) for name, found in sums.items()}
        config = settings.build(values.pop("config"))
        return _checked(replace(Progress(config), **values)), sums
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, ConfigError) as error:
        raise RunError(f"{path / STATE}: not readable as a checkpoint's state: {error}") from error


def _checked(progress: Progress) -> Progress:
    """Raises ValueError for what no training comes to."""
    for field in fields(progress):
        value = getattr(progress, field.name)
        if field.name == "config" or (value is None and "None" in str(field.type)):
            continue
        whole = "int" in str(field.type)
        if type(value) is not int and (whole or type(value) is not float or not math.isfinite(value)):
            raise ValueError(f"{field.name} = {value!r:.40}")
        low = -1 if field.name == "evaluated_at" else 0
        if value > ev.LARGEST or (value < low and (whole or field.name == "seconds")):
            raise ValueError(f"{field.name} = {value!r:.40}")
    if progress.step > progress.config.train.steps or progress.from_step > progress.step:
        raise ValueError(f"step = {progress.step} of {progress.config.train.steps}, from {progress.from_step}")
    return progress


def _read_weights(path: Path, name: str, sums: dict[str, int] | None) -> Weights:
    try:
        if sums is not None and checksum(path / name) != sums.get(name):
            raise RunError(f"{path / name}: damaged: its checksum is not the one it was written with")
    except OSError as error:
        raise RunError(f"{path / name}: not readable: {error.strerror}") from error
    return load_weights(path / name)


def load_weights(path: Path) -> Weights:
    """The tensors of a safetensors file, on the CPU. Raises RunError."""
    try:
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file, or none that ends", str(path))
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise RunError(f"{path}: not readable as safetensors: {error}") from error


def copy_weights(state: dict[str, Tensor]) -> Weights:
    """A copy on the CPU that later updates do not touch."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def optimizer_tensors(optimizers: list[Optimizer]) -> Weights:
    """The state of all optimizers as flat names: "optimizer.parameter.entry"."""
    return {
        f"{i}.{parameter}.{entry}": value.detach().to("cpu", copy=True).contiguous()
        for i, optimizer in enumerate(optimizers)
        for parameter, entries in optimizer.state_dict()["state"].items()
        for entry, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimizers(optimizers: list[Optimizer], tensors: Weights) -> None:
    """Undo `optimizer_tensors`, into optimizers built from the same config. Raises RunError."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        owner, parameter, entry = (*name.split(".", 2), "", "")[:3]
        known = owner.isdecimal() and parameter.isdecimal() and int(owner) < len(states)
        if not known or not entry:
            raise RunError(f"the checkpoint's optimizer does not fit the config: it has {name[:60]!r}")
        states[int(owner)].setdefault(int(parameter), {})[entry] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        _check_state(optimizer, state)
        try:
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        except (ValueError, KeyError, RuntimeError) as error:
            raise RunError(f"the checkpoint's optimizer does not fit the config: {error}") from error


def _check_state(optimizer: Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Raises RunError unless each parameter has what this optimizer keeps of it, in its shape, or none has anything."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not state:
        return
    wanted = _kept(optimizer)
    if not state.keys() <= set(range(len(parameters))):
        raise RunError(f"the checkpoint's optimizer does not fit the config: it knows of {len(state)} parameters")
    for number, entries in state.items():
        shapes = {entry: list(tensor.shape) for entry, tensor in entries.items()}
        expected = {entry: [] if entry == "step" else list(parameters[number].shape) for entry in wanted}
        if shapes != expected:
            raise RunError(
                f"the checkpoint's optimizer does not fit the config: parameter {number} has {shapes}, not {expected}"
            )


def _kept(optimizer: Optimizer) -> tuple[str, ...]:
    """The tensors that torch's optimizers keep of a parameter."""
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("momentum_buffer",)


def check_fits(config: Config, n_vocab: int, weights: Weights) -> None:
    """Raises RunError unless the lab's own model of `config` has as many parameters as `weights`.

    Before that model is made: settings that were damaged could ask for more than the memory holds.
    """
    if config.model.source:
        return
    found = sum(tensor.numel() for tensor in weights.values())
    expected = count_parameters(config.model, n_vocab)
    # A mistake made on purpose may take some away or add some.
    if found != expected and not (config.faults and expected <= 2 * found):
        raise RunError(f"the checkpoint's weights do not fit the config: {found:,} parameters, not {expected:,}")


def restore_model(model: torch.nn.Module, weights: Weights) -> None:
    """Raises RunError when names, shapes or types differ from the model's."""
    try:
        for name, tensor in model.state_dict().items():
            if name in weights and weights[name].dtype != tensor.dtype:
                raise RuntimeError(f"{name} is of {weights[name].dtype}, not {tensor.dtype}")
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"the checkpoint's weights do not fit the config: {error}") from error
