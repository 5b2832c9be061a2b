"""Checkpoints: a folder of safetensors and JSON files, written atomically and without pickle."""

import contextlib
import errno
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.config.schema import Config
from tui_lab.core.events import LARGEST, Count
from tui_lab.core.kernels.parameter_count import count_parameters
from tui_lab.core.training.checkpoint_names import BY_HAND, is_by_hand, name_of
from tui_lab.core.training.checkpoint_spread import MOST_BYTES, spread
from tui_lab.core.training.loss_scale import LossScale
from tui_lab.core.training.tensor_files import copied, write_tensors
from tui_lab.util import files
from tui_lab.util.errors import RunError, first_line
from tui_lab.util.strict_json import sealed, unsealed

MODEL, OPTIMIZER, BEST = "model.safetensors", "optimizer.safetensors", "best.safetensors"
STATE = "state.json"
LARGEST_STATE = 2**20
"""Bytes."""
Weights = dict[str, Tensor]


Finite = Annotated[float, Field(strict=True)]


@dataclass(frozen=True)
class Progress:
    """The state of a trainer that is not in tensors. Batches and dropout follow from the seed and the step.

    The constraints hold for state.json, not for Python code that makes one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    config: Config
    """With the live changes made so far."""
    step: Count = 0
    from_step: Count = 0
    """The step from which on the loader has its present settings."""
    from_draw: Count = 0
    """The number of examples drawn before `from_step`."""
    tokens: Count = 0
    seconds: Annotated[Finite, Field(ge=0)] = 0.0
    """Time of all steps."""
    loss_ema: Finite | None = None
    best_val_loss: Finite | None = None
    best_step: Count | None = None
    worse_evaluations: Count = 0
    evaluated_at: Annotated[int, Field(strict=True, ge=-1, le=LARGEST)] = -1
    """The step of the last evaluation; -1: none yet."""
    loss_scale: LossScale | None = None
    """In float16; None before its first step and in other precisions."""


_PROGRESS = TypeAdapter(Progress)
_CHECKSUMS: TypeAdapter[dict[str, int] | None] = TypeAdapter(dict[str, int] | None)


@dataclass(frozen=True)
class Checkpoint:
    """Everything a trainer needs to continue. best: the weights of the best validation loss, if any.

    by_hand: whether the user asked for it, so that later ones do not replace it.
    """

    progress: Progress
    model: Weights
    optimizer: Weights
    best: Weights | None
    by_hand: bool = False


def save(folder: Path, checkpoint: Checkpoint, spread_bytes: int = MOST_BYTES) -> Path:
    """Write `folder`/step-N atomically, then remove the others, but for the best and those saved by hand.

    spread_bytes: what others may take, of those that are spread most evenly over the steps. A checkpoint of a step that
    was saved before replaces that one, and is by hand if that one was. Raises OSError with the old ones intact.
    """
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "is a symlink, and a run writes only within its own folder", folder)
    name = name_of(checkpoint.progress.step)
    path = _free(folder / name)
    by_hand = checkpoint.by_hand or any(map(is_by_hand, folder.glob(f"{name}*")))
    with files.new_folder(path) as temporary:
        checksums = _write_tensors(temporary, checkpoint)
        state = asdict(checkpoint.progress) | {"config": checkpoint.progress.config.model_dump(mode="json")}
        (temporary / STATE).write_text(sealed(state | {"files": checksums}, indent=1), "utf-8")
        if by_hand:
            (temporary / BY_HAND).touch()
    others = {other for other in folder.glob("step-*") if other != path}
    for replaced in others - _kept(others, path, checkpoint.progress, spread_bytes):
        files.remove(replaced)
    return path


def _kept(others: set[Path], new: Path, progress: Progress, spread_bytes: int) -> set[Path]:
    """Return the checkpoints that stay besides a new one: those saved by hand, the best, and some between them.

    progress: of the new one. The best is that of the checkpoints: an evaluation may not have been saved.
    """
    of_other_steps = {path for path in others if path.stem != new.stem and not path.is_symlink()}
    kept = {path for path in of_other_steps if is_by_hand(path)}
    if not _is_best(progress):
        losses = [(loss, path) for path in of_other_steps - kept if (loss := _loss_if_best(path)) is not None]
        kept |= {path for _, path in sorted(losses)[:1]}
    return kept | spread(of_other_steps - kept, [*kept, new], spread_bytes)


def _loss_if_best(path: Path) -> float | None:
    """Return the validation loss of a checkpoint that was the best when it was saved.

    None for others and damaged ones.
    """
    try:
        progress = load_progress(path)
    except RunError:
        return None
    return progress.best_val_loss if _is_best(progress) and not path.is_symlink() else None


def _is_best(progress: Progress) -> bool:
    """Return whether the weights of the checkpoint are those of the best evaluation so far."""
    return progress.best_step == progress.step


def _write_tensors(folder: Path, checkpoint: Checkpoint) -> dict[str, int]:
    """Write the tensors into `folder` and return the checksums by file name. Raises OSError."""
    checksums = {
        MODEL: _write(folder / MODEL, checkpoint.model),
        OPTIMIZER: _write(folder / OPTIMIZER, checkpoint.optimizer),
    }
    best = checkpoint.best
    if best is None:
        return checksums
    if _are_equal(best, checkpoint.model):
        # A second name of the same file saves a quarter of the bytes with Adam. Not every file system has hard links.
        with contextlib.suppress(OSError):
            os.link(folder / MODEL, folder / BEST)
            return checksums | {BEST: checksums[MODEL]}
    return checksums | {BEST: _write(folder / BEST, best)}


def _are_equal(first: Weights, second: Weights) -> bool:
    """Return whether all tensors have the same names, types, shapes and bits.

    -0.0 differs from 0.0, and NaN may be equal.
    """
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype
        and tensor.shape == second[name].shape
        and torch.equal(_bits(tensor), _bits(second[name]))
        for name, tensor in first.items()
    )


def _bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _write(path: Path, tensors: Weights) -> int:
    """Write a safetensors file and return its checksum. Raises OSError."""
    write_tensors(path, tensors)
    return checksum(path)


def checksum(path: Path) -> int:
    """Return the CRC-32 of a regular file, computed in bounded memory. Raises OSError."""
    _require_file(path)
    crc = 0
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            crc = zlib.crc32(chunk, crc)
    return crc


def _require_file(path: Path) -> None:
    """Raises FileNotFoundError unless `path` is a regular file: a pipe might never end."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such regular file", str(path))


def _free(path: Path) -> Path:
    """`path`, or one that sorts after it where the step is saved again, so that the old copy stays until then."""
    taken = sorted(path.parent.glob(f"{path.name}*"))
    if not taken:
        return path
    number = taken[-1].suffix[1:]
    return path.with_name(f"{path.name}.{(int(number) if number.isdecimal() else 0) + 1:04d}")


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises RunError when it is damaged."""
    progress, checksums = _read_state(path)
    has_best = BEST in checksums if checksums is not None else (path / BEST).exists()
    return Checkpoint(
        progress=progress,
        model=_read_weights(path, MODEL, checksums),
        optimizer=_read_weights(path, OPTIMIZER, checksums),
        best=_read_weights(path, BEST, checksums) if has_best else None,
        by_hand=is_by_hand(path),
    )


def load_progress(path: Path) -> Progress:
    """Read a checkpoint without its tensors. Raises RunError."""
    return _read_state(path)[0]


def load_model(path: Path, *, best: bool = False) -> tuple[Progress, Weights]:
    """Read the progress and the last weights of a checkpoint, or the best ones. Raises RunError."""
    progress, checksums = _read_state(path)
    return progress, _read_weights(path, BEST if best else MODEL, checksums)


def _read_state(path: Path) -> tuple[Progress, dict[str, int] | None]:
    """Return the content of state.json: progress and the checksums of the other files, None in old checkpoints."""
    try:
        state, _ = unsealed(files.read_text(path / STATE, LARGEST_STATE))
        if not isinstance(state, dict):
            raise ValueError("not a table")
        checksums = _CHECKSUMS.validate_python(state.pop("files", None))
        progress = _PROGRESS.validate_python(state)
        steps = progress.config.train.steps
        if progress.step > steps or progress.from_step > progress.step:
            raise ValueError(f"step = {progress.step} of {steps}, from_step = {progress.from_step}")
    except (OSError, ValueError) as error:
        reason = first_line(error) if isinstance(error, ValidationError) else error
        raise RunError.of("damaged", f"not the state of a checkpoint: {reason}", key=str(path / STATE)) from error
    return progress, checksums


def _read_weights(path: Path, name: str, checksums: dict[str, int] | None) -> Weights:
    try:
        if checksums is not None and checksum(path / name) != checksums.get(name):
            raise RunError.of("damaged", "the checksum does not match", key=str(path / name))
    except OSError as error:
        raise RunError.of("unreadable", f"not readable: {error.strerror}", key=str(path / name)) from error
    return load_weights(path / name)


def load_weights(path: Path) -> Weights:
    """Return the tensors of a safetensors file, on the CPU. Raises RunError."""
    try:
        _require_file(path)
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise RunError.of("damaged", f"not readable as safetensors: {error}", key=str(path)) from error


def copy_weights(state: dict[str, Tensor]) -> Weights:
    """Return a copy on the CPU that later steps do not change."""
    return {name: copied(tensor) for name, tensor in state.items()}


def optimizer_tensors(optimizers: list[Optimizer]) -> Weights:
    """Return the state of all optimizers as flat names: "optimizer.parameter.entry"."""
    return {
        f"{i}.{parameter}.{entry}": copied(value)
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
        has_owner = owner.isdecimal() and parameter.isdecimal() and int(owner) < len(states)
        if not has_owner or not entry:
            raise _misfit("optimizer", f"it has an entry {name[:60]!r}")
        states[int(owner)].setdefault(int(parameter), {})[entry] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        _check_state(optimizer, state)
        try:
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        except (ValueError, KeyError, RuntimeError) as error:
            raise _misfit("optimizer", str(error)) from error


def _misfit(part: str, reason: str) -> RunError:
    return RunError.of("conflict", f"the checkpoint's {part} does not fit the config: {reason}")


def _check_state(optimizer: Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Raises RunError unless the state is empty or has every entry of this optimizer in the parameters' shapes."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not state:
        return
    names = _state_names(optimizer)
    if not state.keys() <= set(range(len(parameters))):
        raise _misfit("optimizer", f"it has the state of {len(state)} parameters")
    for number, entries in state.items():
        shapes = {entry: list(tensor.shape) for entry, tensor in entries.items()}
        expected = {entry: [] if entry == "step" else list(parameters[number].shape) for entry in names}
        if shapes != expected:
            raise _misfit("optimizer", f"parameter {number} has {shapes}, not {expected}")


def _state_names(optimizer: Optimizer) -> tuple[str, ...]:
    """Return the names of the tensors that torch's optimizers keep for each parameter."""
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("momentum_buffer",)


def check_fits(config: Config, n_vocab: int, weights: Weights) -> None:
    """Raises RunError unless the built-in model of `config` has as many parameters as `weights`.

    Called before the model is built: damaged settings could ask for more memory than there is.
    """
    if config.model.source:
        return
    n_parameters = sum(tensor.numel() for tensor in weights.values())
    expected = count_parameters(config.model, n_vocab)
    # A planted fault may remove or add parameters.
    if n_parameters != expected and not (config.faults and expected <= 2 * n_parameters):
        raise _misfit("model", f"{n_parameters:,} parameters, not {expected:,}")


def restore_model(model: torch.nn.Module, weights: Weights) -> None:
    """Raises RunError when names, shapes or types differ from the model's."""
    try:
        for name, tensor in model.state_dict().items():
            if name in weights and weights[name].dtype != tensor.dtype:
                raise RuntimeError(f"{name} is of {weights[name].dtype}, not {tensor.dtype}")
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise _misfit("model", str(error)) from error
