"""The cause of an error that ended a script, where the error itself names only a consequence.

The variables of the functions that it passed through are read: the model, its batch, and a Trainer of transformers.
"""

import inspect
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.loop.reading import some
from tui_lab.core.user_code.missing_resource import links
from tui_lab.core.user_code.shown_file import shown_file
from tui_lab.core.user_code.source_lines import Match, is_freezing, is_keyword, is_text, is_true_keyword, only_line
from tui_lab.core.user_code.user_files import is_user_code

NO_GRAPH = "does not require grad and does not have a grad_fn"
"""Of torch's message on backward()."""
NO_LOSS = "did not return a loss"
"""Of the message of a Trainer of transformers."""
NO_METRIC = "metric_for_best_model"
"""Of its message on a metric that the evaluation did not give."""


def cause_of(error: BaseException) -> Finding | None:
    """Return what caused an error of user code, with its line; None if it is not known."""
    context = _Context(error)
    for link in links(error):
        message = str(link)
        if isinstance(link, RuntimeError) and NO_GRAPH in message:
            return _nothing_trainable(context, message)
        if isinstance(link, ValueError) and NO_LOSS in message or _is_missing_loss(link):
            return _no_labels(context, message)
        if isinstance(link, KeyError) and NO_METRIC in message:
            return _wrong_label_names(context)
    return None


class _Context:
    """What the functions that an error passed through had, the innermost first."""

    def __init__(self, error: BaseException) -> None:
        traces = [list(traceback.walk_tb(link.__traceback__)) for link in links(error)]
        self._frames = [frame for trace in traces for frame, _ in reversed(trace)]
        files = [frame.f_code.co_filename for frame in self._frames]
        self._files = list(dict.fromkeys(file for file in files if is_user_code(file)))
        frames_of_user = [frame for frame in self._frames if is_user_code(frame.f_code.co_filename)]
        self._lines = {id(frame): line for frame, line in next(filter(None, traces), [])}
        self._innermost = frames_of_user[0] if frames_of_user else None

    def line(self, *matches: Match) -> str:
        """Return the user's line that matches; else the innermost one that the error passed through."""
        for match in matches:
            place = only_line(self._files, match)
            if place is not None:
                return f"{shown_file(place[0])}:{place[1]}"
        if self._innermost is None:
            return ""
        line = self._lines.get(id(self._innermost), self._innermost.f_lineno)
        return f"{shown_file(self._innermost.f_code.co_filename)}:{line}"

    def values(self) -> Iterator[Any]:
        """Yield the variables of all functions."""
        for frame in self._frames:
            yield from list(frame.f_locals.values())

    @property
    def model(self) -> nn.Module | None:
        """The largest module, of the variables or of the Trainer."""
        values = (*self.values(), getattr(self.trainer, "model", None))
        models = [value for value in values if isinstance(value, nn.Module)]
        return max(models, key=lambda model: sum(p.numel() for p in model.parameters()), default=None)

    @property
    def trainer(self) -> Any:
        """The Trainer of transformers, or None."""
        return next(
            (value for value in self.values() if hasattr(value, "label_names") and hasattr(value, "args")), None
        )

    @property
    def batch(self) -> Mapping[str, Any] | None:
        """The innermost mapping of names to tensors."""
        for value in self.values():
            if not isinstance(value, Mapping) or "logits" in value or not all(isinstance(name, str) for name in value):
                continue
            if any(isinstance(item, Tensor) for item in value.values()):
                return value
        return None


def _nothing_trainable(context: _Context, message: str) -> Finding | None:
    """Return a finding if all weights are frozen; the loss may be detached in another way."""
    model = context.model
    if model is None:
        return None
    parameters = list(model.parameters())
    if not parameters or any(p.requires_grad for p in parameters):
        return None
    is_inference = any(getattr(each, "inference_mode", False) for each in _adapters(model))
    n = sum(p.numel() for p in parameters)
    reason = "the adapter's config has inference_mode=True" if is_inference else "requires_grad is False for all"
    if is_inference:
        fix = "Leave inference_mode at False in the adapter's config while it is trained."
    elif _adapters(model):
        fix = "Freeze the base model before the adapter is added, or leave out the weights of the adapter (lora_)."
    else:
        fix = "Call requires_grad_(True) on the parts that are to be trained."
    return Finding(
        code="frozen_parameters",
        title=f"No parameter is trainable: all {n:,} weights of {type(model).__name__} are frozen.",
        evidence=f"{reason}; backward() fails: {_short(message)}",
        why="Without a weight that requires a gradient, the loss has no graph, and there is nothing to train.",
        fix=fix,
        location=context.line(is_true_keyword("inference_mode")) if is_inference else context.line(is_freezing),
        explains=("detached_loss", "no_step"),
    )


def _adapters(model: nn.Module) -> list[Any]:
    """Return the configs of the adapters that peft has added."""
    configs = getattr(model, "peft_config", None)
    return list(configs.values()) if isinstance(configs, Mapping) else []


def _is_missing_loss(error: BaseException) -> bool:
    """Return whether the script called a method of a loss that is None."""
    return isinstance(error, AttributeError) and error.obj is None and error.name in ("backward", "item", "mean")


def _no_labels(context: _Context, message: str) -> Finding | None:
    """Return a finding if the model takes labels, and the batch has none."""
    model = context.model
    batch = context.batch
    if model is None or batch is None or "labels" in batch or "labels" not in _inputs_of(model):
        return None
    dropped = _dropped_columns(context.trainer, batch)
    evidence = f"the batch has {some(list(batch))}, and the model computes a loss only with labels"
    if dropped:
        evidence += f"; the data set also has {some(dropped)}, which the Trainer drops: the model takes no such input"
        fix = f'Give the column "{dropped[0]}" the name "labels".'
    else:
        fix = (
            "Add labels to the data set, or use a collator that makes them, as "
            "DataCollatorForLanguageModeling(tokenizer, mlm=False) does for a language model."
        )
    return Finding(
        code="missing_labels",
        title="No labels reach the model, so it returns no loss.",
        evidence=f"{evidence} ({_short(message)})",
        why="Nothing can be trained without a loss.",
        fix=fix,
        location=context.line(*map(is_text, dropped), is_keyword("data_collator", "collate_fn")),
    )


def _wrong_label_names(context: _Context) -> Finding | None:
    """Return a finding if a Trainer looks for labels under names that its model does not take."""
    trainer = context.trainer
    model = context.model
    if trainer is None or model is None:
        return None
    names = list(trainer.label_names or ())
    taken = _inputs_of(model)
    if not names or any(name in taken for name in names):
        return None
    return Finding(
        code="missing_labels",
        title=f"The evaluation has no labels: label_names={names!r} names no input of the model.",
        evidence=f"the forward of {type(model).__name__} takes {some(sorted(taken), 8)}",
        why="The Trainer looks for labels under these names only. Without labels it computes neither a validation loss "
        "nor metrics.",
        fix="Leave label_names out, or name the input that the batch has: the collators call it labels.",
        location=context.line(is_keyword("label_names")),
    )


def _inputs_of(model: nn.Module) -> set[str]:
    unwrapped: Any = getattr(model, "get_base_model", None)
    base = model if unwrapped is None else unwrapped()
    return set(inspect.signature(base.forward).parameters)


def _dropped_columns(trainer: Any, batch: Mapping[str, Any]) -> list[str]:
    """Return the columns of numbers of the training data that no batch has."""
    data = getattr(trainer, "train_dataset", None)
    columns = getattr(data, "column_names", None)
    if data is None or not isinstance(columns, list) or not len(data):
        return []
    first = data[0]
    return [name for name in columns if name not in batch and not isinstance(first.get(name), str)]


def _short(message: str) -> str:
    """Return the first sentence of a message."""
    return message.strip().partition("\n")[0].partition(". ")[0]
