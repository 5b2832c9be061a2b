"""Checkpoints of a script: the weights of its model and the state of its optimizers, as safetensors and JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.training.checkpoint_names import name_of
from tui_lab.core.training.tensor_files import copied, write_tensors
from tui_lab.core.watch.model.model_calls import is_sharded
from tui_lab.util import files
from tui_lab.util.errors import RunError
from tui_lab.util.strict_json import dumps, loads

MODEL = "model.safetensors"
SHARDED = "the model is spread over several processes, so one of them alone can neither save nor call it"
LARGEST_STATE = 2**24
"""Bytes of the part of an optimizer's state that is not in tensors."""


def save(folder: Path, step: int, model: nn.Module, optimizers: Sequence[Optimizer]) -> Path:
    """Write `folder`/step-N; checkpoints of other steps stay.

    None is removed, since a script saves when the user asks and at its end. `model.load_state_dict(load_model(path))`
    and `load_optimizer` restore them. Raises OSError with the old ones intact, and RunError as `model_state`.
    """
    path = folder / name_of(step)
    weights = model_state(model)
    with files.new_folder(path) as temporary:
        write_model(temporary, weights)
        for number, optimizer in enumerate(optimizers):
            write_optimizer(temporary, number, optimizer.state_dict())
    return path


def model_state(model: nn.Module) -> dict[str, Any]:
    """Return the state_dict of a model. Raises RunError if it is spread over several processes."""
    if is_sharded(model):
        raise RunError.of("unavailable", SHARDED)
    return model.state_dict()


def write_model(checkpoint: Path, weights: Mapping[str, Any]) -> None:
    """Write the weights of a checkpoint. Raises OSError."""
    write_tensors(checkpoint / MODEL, _copied(weights))


def write_optimizer(checkpoint: Path, number: int, state: Mapping[str, Any]) -> None:
    """Write what the state_dict of the optimizer `number` holds. Raises OSError."""
    tensors, numbers = _split(state)
    name = optimizer_name(number)
    write_tensors(checkpoint / f"{name}.safetensors", tensors)
    (checkpoint / f"{name}.json").write_text(dumps(numbers, indent=1), "utf-8")


def optimizer_name(number: int) -> str:
    """Return the name of its files without the suffix."""
    return f"optimizer-{number}"


def optimizer_state(state: Mapping[Tensor, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `state_dict` of an optimizer returns, which has this state of each parameter and these groups."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
    return {
        "state": {numbers[id(parameter)]: values for parameter, values in state.items() if id(parameter) in numbers},
        "param_groups": [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in groups],
    }


def n_bytes(state: Any) -> int:
    """Return the bytes of the tensors in nested mappings."""
    if isinstance(state, Tensor):
        return state.nbytes
    return sum(map(n_bytes, state.values())) if isinstance(state, Mapping) else 0


def copied_state(state: Any) -> Any:
    """Return a copy of nested mappings, with tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    return {key: copied_state(value) for key, value in state.items()} if isinstance(state, Mapping) else state


def load_model(checkpoint: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint. Raises OSError or SafetensorError."""
    weights: dict[str, Tensor] = load_file(checkpoint / MODEL)
    return weights


def load_optimizer(optimizer: Optimizer, checkpoint: Path, number: int = 0) -> None:
    """Load the state of the optimizer `number` of a checkpoint. Raises OSError or ValueError."""
    tensors = load_file(checkpoint / f"{optimizer_name(number)}.safetensors")
    numbers = loads(files.read_text(checkpoint / f"{optimizer_name(number)}.json", LARGEST_STATE))
    state: dict[int, dict[str, Any]] = {int(key): dict(value) for key, value in numbers["state"].items()}
    for key, tensor in tensors.items():
        parameter, _, name = key.partition("/")
        state.setdefault(int(parameter), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": numbers["param_groups"]})


def _copied(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: copied(tensor) for name, tensor in weights.items() if isinstance(tensor, Tensor)}


def _split(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of an optimizer's state, named "parameter/name", and everything else that JSON can hold."""
    tensors: dict[str, Any] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, values in state["state"].items():
        numbers[str(parameter)] = {name: value for name, value in values.items() if _is_plain(value)}
        tensors |= {f"{parameter}/{name}": value for name, value in values.items() if isinstance(value, torch.Tensor)}
    groups = [{name: value for name, value in group.items() if _is_plain(value)} for group in state["param_groups"]]
    return _copied(tensors), {"state": numbers, "param_groups": groups}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, int | float | str | bool)
