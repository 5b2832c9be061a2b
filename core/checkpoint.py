"""Checkpoints: a folder of safetensors and JSON, written whole or not at all. No pickle."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from core import files, settings
from core.config import Config
from core.errors import ConfigError, RunError
from core.jsontext import dumps

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
    path = _free(folder / name_of(checkpoint.progress.step))
    with files.new_folder(path) as temporary:
        save_file(checkpoint.model, temporary / "model.safetensors")
        save_file(checkpoint.optimizer, temporary / "optimizer.safetensors")
        if checkpoint.best is not None:
            save_file(checkpoint.best, temporary / "best.safetensors")
        values = asdict(checkpoint.progress) | {"config": checkpoint.progress.config.model_dump(mode="json")}
        (temporary / "state.json").write_text(dumps(values, indent=1), "utf-8")
    for older in folder.glob("step-*"):
        if older != path:
            shutil.rmtree(older, ignore_errors=True)
    return path


def _free(path: Path) -> Path:
    """`path`, or one that sorts after it: a step saved again never removes its only copy before the new one stands."""
    taken = sorted(path.parent.glob(f"{path.name}*"))
    if not taken:
        return path
    return path.with_name(f"{path.name}.{int(taken[-1].suffix[1:] or 0) + 1:04d}")


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises RunError when it is damaged."""
    best = path / "best.safetensors"
    return Checkpoint(
        progress=load_progress(path),
        model=load_weights(path / "model.safetensors"),
        optimizer=load_weights(path / "optimizer.safetensors"),
        best=load_weights(best) if best.exists() else None,
    )


def load_progress(path: Path) -> Progress:
    try:
        values: dict[str, Any] = json.loads((path / "state.json").read_text("utf-8"))
        config = settings.build(values.pop("config"))
        return replace(Progress(config), **values)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{path / 'state.json'}: not readable as a checkpoint's state: {error}") from error


def load_weights(path: Path) -> Weights:
    """The tensors of a safetensors file, on the CPU. Raises RunError."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
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
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            owner, parameter, entry = name.split(".", 2)
            if owner == str(i):
                state.setdefault(int(parameter), {})[entry] = tensor
        try:
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        except (ValueError, KeyError) as error:
            raise RunError(f"the checkpoint's optimizer does not fit the config: {error}") from error


def restore_model(model: torch.nn.Module, weights: Weights) -> None:
    """Raises RunError when names or shapes differ from the model's."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"the checkpoint's weights do not fit the config: {error}") from error
