"""The batches of a case: one batch, an iterable or a function, as a function of the step."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.nested import mapped, tensors_of
from tui_lab.core.user_code.import_file import described
from tui_lab.util.errors import ConfigError

MAX_BATCHES = 64
"""Batches taken from an iterable, which may be endless."""
BatchFunction = Callable[[int], Batch]


def batches_of(batches: Any) -> tuple[BatchFunction, bool]:
    """Return a function step → batch, and whether it can return different batches. Raises ConfigError.

    The function raises ConfigError with the user's line if the batches cannot be drawn.
    """
    if callable(batches) and not isinstance(batches, Tensor | Mapping):
        return partial(_drawn, batches), True
    if _is_batch(batches):
        batch = _checked(batches, 0)
        return (lambda step: batch), False
    if isinstance(batches, Iterable) and not isinstance(batches, str):
        drawn = list(_first_batches(batches))
        if not drawn:
            raise ConfigError.of("missing", "the iterable is empty", key="Case.batches")
        return (lambda step: drawn[step % len(drawn)]), len(drawn) > 1
    raise ConfigError.of(
        "wrong_type",
        f"this is a {type(batches).__name__}",
        key="Case.batches",
        allowed="a batch such as (x, y), an iterable of batches such as a DataLoader, or a function step → batch",
    )


def _drawn(batches: BatchFunction, step: int) -> Batch:
    try:
        batch = batches(step)
    except ConfigError:
        raise
    except Exception as error:
        raise _batch_error(step, error) from error
    return _checked(batch, step)


def _first_batches(batches: Iterable[Any]) -> Iterator[Batch]:
    step = 0
    try:
        for batch in batches:
            yield _checked(batch, step)
            step += 1
            if step == MAX_BATCHES:
                return
    except ConfigError:
        raise
    except Exception as error:
        raise _batch_error(step, error) from error


def _batch_error(step: int, error: Exception) -> ConfigError:
    return ConfigError.of("user_code", f"the batch of step {step}: {described(error)}", key="Case.batches")


def _is_batch(value: Any) -> bool:
    """Return whether a value is one batch, not several: a tensor, a mapping, or a tuple that ends with a tensor."""
    if isinstance(value, Tensor | Mapping):
        return True
    if isinstance(value, tuple):
        return bool(value) and isinstance(value[-1], Tensor)
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, Tensor) for item in value)


def _checked(batch: Any, step: int) -> Batch:
    """Return the batch with contiguous tensors, so that a model or loss may call view(-1). Raises ConfigError.

    The ids of a pair (x, y) become int64.
    """
    key = "Case.batches"
    tensors = list(tensors_of(batch))
    if not tensors and (isinstance(batch, str | int | float) or batch is None or _is_empty(batch)):
        message = f"the batch of step {step} is a {type(batch).__name__} without tensors"
        raise ConfigError.of("wrong_type", message, key=key, allowed="tensors, or tuples, lists and dicts of them")
    if any(tensor.numel() == 0 for tensor in tensors[:1]):
        raise ConfigError.of(
            "invalid", f"the batch of step {step} is empty: its first tensor is {list(tensors[0].shape)}", key=key
        )
    ids = all(t.dim() == 2 and not t.is_floating_point() and t.dtype is not torch.bool for t in tensors)
    if isinstance(batch, list | tuple) and len(tensors) == len(batch) == 2 and ids:
        return tensors[0].long().contiguous(), tensors[1].long().contiguous()
    return mapped(batch, lambda tensor: tensor.contiguous())


def _is_empty(batch: Any) -> bool:
    return isinstance(batch, Mapping | list | tuple)
