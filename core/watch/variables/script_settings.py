"""The settings of a script, read from its variables: simple values and the fields of config objects.

Only plain storage is read (dicts, `__dict__`, slots), never a property or a method of the script's own classes: those
could raise, be slow or change something.
"""

import argparse
import dataclasses
import math
import re
import time
from collections import UserDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PosixPath, WindowsPath
from types import MemberDescriptorType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

Setting = int | float | bool | str
MAX_SETTINGS = 300
MAX_TEXT = 200
"""Characters of a text, at most; a longer one is cut."""
MAX_DATA = 10_000
"""A longer text is data, not a setting, and left out."""
MAX_ENTRIES = 1000
"""Entries of one object that are looked at."""
MAX_ITEMS = 8
"""Items of a tuple that is a setting, at most."""
MAX_DEPTH = 4
MAX_STEPS = 10**12
RECENT = 86_400.0
"""Seconds."""
HIDDEN = "hidden"

_CONFIG_NAMES = frozenset({
    "args", "arguments", "cfg", "conf", "config", "configs", "configuration", "flags", "hp", "hparams", "hps",
    "hyperparameters", "hyperparams", "opt", "options", "opts", "params", "parameters", "settings"
})  # fmt: skip
_LOOP_VARIABLES = frozenset({
    "batch_idx", "batch_index", "best_loss", "best_val_loss", "dt", "epoch", "global_step", "i", "idx", "ii", "index",
    "it", "iter_num", "iteration", "j", "local_iter_num", "loss", "lossf", "micro_step", "running_loss", "running_mfu",
    "start", "start_time", "step", "t", "t0", "t1", "total_loss"
})  # fmt: skip
"""Names of simple variables that change in a loop."""
_STEP_NAMES = (
    "max_iters", "max_steps", "total_steps", "num_steps", "n_steps", "max_train_steps", "num_train_steps",
    "num_training_steps", "train_steps", "training_steps", "max_iterations", "num_iterations", "total_iterations",
    "n_iterations", "iterations", "num_iters", "total_iters", "train_iters", "n_iters", "iters", "steps",
    "num_updates", "max_updates", "total_updates", "n_updates"
)  # fmt: skip
"""Names of the number of optimizer steps; the first that exists counts."""
_EPOCH_NAMES = ("num_epochs", "n_epochs", "max_epochs", "train_epochs", "num_train_epochs", "total_epochs", "epochs")
_OF_ENVIRONMENT = frozenset({"total_timesteps", "total_env_steps", "num_envs", "n_envs", "env_id"})
"""Names in scripts of reinforcement learning, whose steps are those of an environment."""
_SECRET_NAME = re.compile(
    r"passw|passphrase|(^|[._])pwd($|[._])|secret|credential|bearer"
    r"|(api|access|private|auth|account|signing|encryption|ssh|wandb|openai|hf|aws|azure)_?key"
)
_SECRET_VALUE = re.compile(r"(hf_|sk-|gh[opsu]_|github_pat_|xox[abp]-|AKIA|glpat-)[\w-]{12,}|://[^/\s:@]*:[^/\s@]+@")
_SPECIAL_TOKEN = re.compile(
    r"(^|[._])(additional|bos|cls|end|eos|eot|image|mask|pad|sep|special|start|unk|fim_\w+)_token$"
)


def captured_settings(namespaces: Sequence[Mapping[str, Any]]) -> dict[str, Setting]:
    """Return the settings in a script's variables, at most MAX_SETTINGS; the fields of objects have dotted names.

    namespaces: the globals of `__main__`, then the variables of running functions; the first value of a name counts.
    A value whose name or form is that of a secret is "hidden". Never raises.
    """
    settings: dict[str, Setting] = {}
    copies = [copy for namespace in namespaces if (copy := _copy_of(namespace))]
    for variables in copies:
        for name, value in variables.items():
            if _is_public(name) and name not in _LOOP_VARIABLES and not _is_clock_reading(value):
                _add(settings, name, value)
    visited: set[int] = set()
    for variables in copies:
        for name, value in _with_attributes_of_self(variables):
            try:
                if _is_public(name) and _is_config(name, value):
                    _add_fields(settings, name, value, visited, depth=1)
            except Exception:  # noqa: S112
                continue
    return settings


def total_steps(settings: Mapping[str, Setting], batches_per_epoch: Collection[int] = ()) -> int:
    """Return the number of optimizer steps that the settings name, 0 if unknown.

    batches_per_epoch: the lengths of the script's DataLoaders. A number of steps that is one of them is that of an
    epoch, unless the settings name no number of epochs.
    """
    if any(key.rpartition(".")[2].lower() in _OF_ENVIRONMENT for key in settings):
        return 0
    n_steps = _number(settings, _STEP_NAMES)
    if n_steps not in batches_per_epoch:
        return n_steps
    accumulates = any("accum" in key.lower() and value not in (0, 1) for key, value in settings.items())
    return 0 if accumulates else n_steps * (_number(settings, _EPOCH_NAMES) or 1)


def _number(settings: Mapping[str, Setting], names: Sequence[str]) -> int:
    """Return the whole number that is set under the first of the names that exists, 0 if none does."""
    for name in names:
        for key, value in settings.items():
            if key.rpartition(".")[2].lower() != name or isinstance(value, bool | str):
                continue
            if 1 <= value <= MAX_STEPS and value == int(value):
                return int(value)
    return 0


def _copy_of(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy, since another thread may change the variables; empty if it cannot be read."""
    try:
        return dict(namespace)
    except Exception:
        return {}


def _with_attributes_of_self(variables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the variables, and the attributes of `self`: a trainer class keeps its config there."""
    yield from variables.items()
    if "self" in variables:
        yield from islice(_stored(variables["self"]).items(), MAX_ENTRIES)


def _is_clock_reading(value: Any) -> bool:
    """Return whether a number is a recent time of day: it differs in each run, and is not a setting."""
    return type(value) is float and abs(value - time.time()) < RECENT


def _is_public(name: object) -> bool:
    return type(name) is str and not name.startswith("_")


def _add(settings: dict[str, Setting], key: str, value: Any) -> None:
    """Add `value` unless it is not a simple one, has no room, or is there: nanoGPT's `config` copies its globals."""
    key = _clean(key)
    if key in settings or len(settings) >= MAX_SETTINGS:
        return
    try:
        simple = _simple(value)
    except Exception:
        return
    variable = settings.get(key.rpartition(".")[2])
    if simple is not None and not (variable == simple and type(variable) is type(simple)):
        settings[key] = HIDDEN if _is_secret(key, simple) else simple


def _simple(value: Any) -> Setting | None:
    """`value` as a setting, without calling methods that a subclass may have replaced; None if it is none."""
    kind = type(value)
    if issubclass(kind, bool):
        return bool(value)
    if issubclass(kind, int):
        return _int_or_text(int.__int__(value))
    if issubclass(kind, float):
        number = float.__float__(value)
        return number if math.isfinite(number) else str(number)
    if issubclass(kind, str):
        text = str.__str__(value)
        return _clean(text) if len(text) <= MAX_DATA else None
    return _simple_of_library(value)


def _int_or_text(number: int) -> int | str:
    """A config file has integers of 64 bits; `str` refuses very long ones."""
    if -(2**63) <= number < 2**63:
        return number
    return _clean(str(number)) if number.bit_length() < 2048 else f"an integer of {number.bit_length():,} bits"


def _simple_of_library(value: Any) -> Setting | None:
    """Return a number of numpy, a path, a device, a dtype, or a short tuple as a setting; None for any other value."""
    kind = type(value)
    if issubclass(kind, np.number | np.bool_):
        item = np.ndarray.item(np.asarray(value))
        return _simple(item) if type(item) in (bool, int, float) else None
    if kind in (torch.dtype, torch.device, PosixPath, WindowsPath):
        return _clean(str(value))
    if kind is tuple and 0 < len(value) <= MAX_ITEMS and all(type(item) in (bool, int, float) for item in value):
        return _clean(str(value))
    if kind is tuple and 0 < len(value) <= MAX_ITEMS and all(type(item) is str for item in value):
        return _clean(str(tuple(_clean(item) for item in value)))
    return None


def _clean(text: str) -> str:
    """Cut a long text, and replace lone surrogates, which cannot be written to a file."""
    text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_secret(key: str, value: Setting) -> bool:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_")
    if isinstance(value, bool):
        return False
    if _SECRET_NAME.search(name):
        return True
    if not isinstance(value, str) or not value:
        return False
    return (name.endswith("token") and not _SPECIAL_TOKEN.search(name)) or bool(_SECRET_VALUE.search(value))


def _is_config(name: str, value: Any) -> bool:
    """Return whether the fields of a variable are settings: by its type, or by its name."""
    kind = type(value)
    is_class = issubclass(kind, type)
    if issubclass(kind, ModuleType) or _is_of_torch(kind) or (callable(value) and not is_class):
        return False
    is_named_config = name.lower().rpartition("_")[2] in _CONFIG_NAMES
    if is_class:
        # `class CFG: lr = 0.1`; a dataclass or model holds only defaults, its instance has the values.
        return is_named_config and not _is_record(value)
    return is_named_config or issubclass(kind, argparse.Namespace) or _is_record(kind)


def _is_of_torch(kind: type) -> bool:
    """Return whether it is a module, an optimizer, a tensor or the like: `opt` and `params` are often such."""
    return any(base.__module__.partition(".")[0] == "torch" for base in kind.__mro__)


def _is_record(kind: type) -> bool:
    """Return whether it is a dataclass or a pydantic model."""
    names = ("__dataclass_fields__", "__pydantic_fields__", "__fields_set__")
    return any(name in vars(base) for base in kind.__mro__ for name in names)


def _add_fields(settings: dict[str, Setting], prefix: str, owner: Any, visited: set[int], depth: int) -> None:
    """Add the simple fields of `owner` first, then those of the objects in it."""
    if id(owner) in visited or len(settings) >= MAX_SETTINGS:
        return
    visited.add(id(owner))
    fields = [
        (name, _unwrapped(value)) for name, value in islice(_stored(owner).items(), MAX_ENTRIES) if _is_public(name)
    ]
    for name, value in fields:
        is_short_list = type(value) is list and len(value) <= MAX_ITEMS
        _add(settings, f"{prefix}.{name}", tuple(value) if is_short_list else value)
    if depth == MAX_DEPTH:
        return
    for name, value in fields:
        if _is_nested(name, value, owner):
            _add_fields(settings, f"{prefix}.{name}", value, visited, depth + 1)


def _is_nested(name: str, value: Any, owner: Any) -> bool:
    kind = type(value)
    is_plain = issubclass(kind, dict | UserDict | SimpleNamespace) or "_content" in _attributes(value)
    return is_plain or kind is type(owner) or _is_config(name, value)


def _stored(owner: Any) -> dict[Any, Any]:
    """Return the fields of an object as they are stored: of a dict, of an instance and its class, of the slots."""
    kind = type(owner)
    if issubclass(kind, dict):
        return dict(dict.items(owner))
    attributes = _attributes(owner)
    for inner in ("_content", "_fields", "data" if issubclass(kind, UserDict) else ""):  # omegaconf, ml_collections
        if type(attributes.get(inner)) is dict:
            return dict(attributes[inner])
    stored: dict[Any, Any] = {}
    for base in reversed((owner if issubclass(kind, type) else kind).__mro__[:-1]):
        for name, value in vars(base).items():
            if type(value) is MemberDescriptorType:
                value = _slot_value(value, owner)
            stored[name] = value
    if _is_record(kind):
        # Constants of the class, and defaults of other fields, are not settings.
        stored = {name: value for name, value in stored.items() if name in _field_names(kind)}
    return stored | attributes


def _field_names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()


def _attributes(owner: Any) -> dict[str, Any]:
    try:
        return dict(object.__getattribute__(owner, "__dict__"))
    except (AttributeError, TypeError):
        return {}


def _slot_value(slot: MemberDescriptorType, owner: Any) -> Any:
    try:
        return slot.__get__(owner)
    except AttributeError:
        return None


def _unwrapped(value: Any) -> Any:
    """Return the value in a node of omegaconf; an interpolation stays a text."""
    attributes = _attributes(value)
    return attributes.get("_val", value)
