"""User code as a case: FILE.py:NAME is a Case, a model, or a function that returns one.

A model alone gets random inputs of a kind that it accepts: token ids, ids for an encoder and a decoder, or numbers of
the shape that its first layer takes.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.calls import output_of
from tui_lab.core.doctor.program.case import Case
from tui_lab.core.doctor.program.layout import takes_time_first
from tui_lab.core.doctor.program.tokens import logits_in, loss_in
from tui_lab.core.doctor.program.unchanged import unchanged_model
from tui_lab.core.training.optim_without_dynamo import Adam
from tui_lab.core.user_code import import_file
from tui_lab.core.user_code.import_file import described
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng
from tui_lab.util.errors import ConfigError

ROWS = 4
TOKENS = (16, 8, 4, 2, 1)
"""Sizes of the random batches that a model without data gets: the first length that fits its context."""
MAX_LENGTH = 2048
MAX_LENGTHS = 8
"""Lengths that are tried for a model that accepts none of TOKENS."""
IMAGE_SIZES = (32, 64, 224, 28)
_INTERNAL = frozenset(vars(nn.Module()))


def case_from(source: str, progress: Callable[[str], None] = lambda doing: None) -> Case:
    """Import FILE.py:NAME as a case; `progress` receives what is being done. Raises ConfigError."""
    return as_case(import_file.load(source, {}, progress), source)


def as_case(value: Any, source: str) -> Case:
    """Return a Case unchanged, and a model with random inputs of its own kind. Raises ConfigError."""
    if isinstance(value, Case):
        return value
    if not isinstance(value, nn.Module):
        raise ConfigError.of(
            "wrong_type",
            f"this is a {type(value).__name__}",
            value=source,
            allowed="a torch.nn.Module, a Case, or a function that returns one",
        )
    with unchanged_rng(), unchanged_model(value):
        inputs = _inputs(value, source)
    if inputs.targets is not None:
        return Case(value, inputs.batch, rule=inputs.rule, optimizer=_adam(value))
    return Case(value, inputs.batch)


@dataclass(frozen=True)
class Inputs:
    """Random batches. rule: that of the targets. targets: how many classes there are; None: there are no targets."""

    batch: Callable[[int], Batch]
    rule: str | None = None
    targets: int | None = None


def _inputs(model: nn.Module, source: str) -> Inputs:
    """Return inputs that the model accepts. Raises ConfigError if it accepts none that were tried."""
    errors: list[Exception] = []
    for length in (*TOKENS, *_lengths_of(model)):
        for inputs_of in (_ids, _two_ids):
            try:
                return inputs_of(model, length)
            except Exception as error:  # The model takes other inputs.
                errors.append(error)
    for shape in _shapes(model):
        try:
            return _numbers(model, shape)
        except Exception as error:
            errors.append(error)
    raise ConfigError.of(
        "user_code",
        f"the model accepts neither ids nor random numbers ({described(errors[0])}); write `def case(): return "
        "Case(model, batches, loss=…)` with a batch of yours in a file and name that: my_case.py:case",
        value=source,
    ) from errors[0]


def _lengths_of(model: nn.Module) -> list[int]:
    """Return lengths of rows that the model may have been built for: sizes of what it keeps, and its settings.

    Such as the length of its tables of sines and cosines, for a model that does not cut them to the row.
    """
    sizes: list[int] = []
    settings: list[int] = []
    for module in model.modules():
        attributes = {name: value for name, value in vars(module).items() if name not in _INTERNAL}
        tensors = [*module.buffers(recurse=False), *(v for v in attributes.values() if isinstance(v, Tensor))]
        sizes += [size for tensor in tensors for size in tensor.shape]
        for value in attributes.values():
            settings += [value] if type(value) is int else []
            settings += [each for each in getattr(value, "__dict__", {}).values() if type(each) is int]
    lengths = [n for n in dict.fromkeys([*sizes, *settings]) if 1 < n <= MAX_LENGTH and n not in TOKENS]
    return lengths[:MAX_LENGTHS]


def _ids(model: nn.Module, length: int) -> Inputs:
    """Return ids for a decoder, or for a classifier of rows. Raises if the model does not take ids."""
    ids = torch.zeros((2, length), dtype=torch.long)
    takes_labels = hasattr(model, "prepare_decoder_input_ids_from_labels")
    sample: Any = {"input_ids": ids, "labels": ids} if takes_labels else ids
    output = output_of(model, lambda model, batch: model(**batch) if takes_labels else model(batch), sample)
    logits = logits_in(output)
    if logits.dim() == 0 and loss_in(output) is not None:
        raise ValueError("the model returns its loss alone; its number of tokens is unknown")
    if logits.dim() == 3 and logits.shape[:2].numel() > ids.numel():
        raise ValueError("the model returns more positions than it got: it extends rows that are too short")
    n_ids = min(logits.shape[-1], _embedding_size(model, sample, takes_labels=takes_labels))
    is_flat = logits.shape[-1] % length == 0 or logits.shape[:1] != (2,)
    if logits.dim() == 2 and logits.shape[-1] > 1 and not is_flat:
        n_classes = int(logits.shape[-1])
        size = _embedding_size(model, sample, takes_labels=False)
        return Inputs(lambda step: (_random(step, length, size), _random(step, 1, n_classes)[:, 0]), None, n_classes)

    time_first = not takes_labels and logits.dim() == 3 and takes_time_first(model, _random(0, length, n_ids))

    def batch(step: int) -> Batch:
        tokens = _random(step, length + 1, n_ids)
        if takes_labels:
            return {"input_ids": _random(step + 1000, length, n_ids), "labels": tokens[:, 1:]}
        pair = tokens[:, :-1], tokens[:, 1:]
        return (pair[0].t(), pair[1].t()) if time_first else pair

    return Inputs(batch, None if takes_labels else "next_token", n_ids)


def _two_ids(model: nn.Module, length: int) -> Inputs:
    """Return ids for an encoder and a decoder. Raises if the model does not take two tensors of ids."""
    ids = torch.zeros((2, length), dtype=torch.long)
    logits = logits_in(output_of(model, lambda model, batch: model(*batch), (ids, ids)))
    n_ids = min(logits.shape[-1], _embedding_size(model, (ids, ids), takes_labels=False))

    def batch(step: int) -> Batch:
        target = _random(step + 1000, length + 1, n_ids)
        return (_random(step, length, n_ids), target[:, :-1]), target[:, 1:]

    return Inputs(batch, "next_token", n_ids)


def _embedding_size(model: nn.Module, sample: Any, *, takes_labels: bool) -> int:
    """Return the smallest number of entries of the embeddings that are called with zeros; 2 ** 62 without any."""
    sizes: list[int] = []

    def called(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() == 2 and not bool(inputs[0].any()):
            sizes.append(int(module.num_embeddings))  # type: ignore[arg-type]

    def forward(model: nn.Module, batch: Any) -> Any:
        if takes_labels:
            return model(**batch)
        return model(*batch) if isinstance(batch, tuple) else model(batch)

    handles = [m.register_forward_pre_hook(called) for m in model.modules() if isinstance(m, nn.Embedding)]
    try:
        output_of(model, forward, sample)
    finally:
        for handle in handles:
            handle.remove()
    # Positions that are all 0 are called alike where rows have one token.
    return min(sizes, default=2**62)


def _random(step: int, length: int, n: int) -> Tensor:
    return torch.randint(0, n, (ROWS, length), generator=torch.Generator().manual_seed(step))


def _shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Yield shapes of numbers that the first layer takes."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            yield from ((ROWS, module.in_channels, size, size) for size in IMAGE_SIZES)
        elif isinstance(module, nn.Conv1d):
            yield ROWS, module.in_channels, 32
        elif isinstance(module, nn.RNNBase):
            yield (ROWS, 8, module.input_size) if module.batch_first else (8, ROWS, module.input_size)
        elif isinstance(module, nn.Linear):
            yield ROWS, module.in_features
            yield ROWS, 8, module.in_features
        elif isinstance(module, nn.MultiheadAttention):
            yield ROWS, 8, module.embed_dim
        else:
            continue
        return


def _numbers(model: nn.Module, shape: tuple[int, ...]) -> Inputs:
    """Return random numbers, with classes as targets if the output may be scores of classes."""

    def numbers(step: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(step))

    try:
        output = logits_in(output_of(model, lambda model, batch: model(batch), numbers(0)))
    except TypeError:
        names = [p.name for p in inspect.signature(model.forward).parameters.values() if p.default is p.empty]
        logits_in(output_of(model, lambda model, batch: model(**batch), dict.fromkeys(names, numbers(0))))
        return Inputs(lambda step: dict.fromkeys(names, numbers(step)))
    if output.dim() == 2 and len(output) == ROWS and output.shape[1] > 1:
        n = int(output.shape[1])
        return Inputs(lambda step: (numbers(step), _random(step, 1, n)[:, 0]), None, n)
    return Inputs(numbers)


def _adam(model: nn.Module) -> torch.optim.Optimizer | None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Adam(parameters, lr=1e-3) if parameters else None
