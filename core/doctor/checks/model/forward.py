"""Does the model return finite values of the right shape? Cost: two forward passes, one of a whole row."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import CallFailed, Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.lines import class_line
from tui_lab.core.doctor.program.batch import first_rows
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.user_code.import_file import described

MAX_SHOWN_ROWS = 5


def check(target: Target) -> Iterator[Finding]:
    try:
        with target.evaluating(), torch.no_grad():
            output = target.output(target.probe.batch)
            logits = target.tokens.logits(output) if target.tokens else None
            if not target.fixed_shape and target.record is None:
                # The probe may be cut: a position table that is too short shows only in a whole row.
                target.output(first_rows(target.batch(0), 1))
    except (NotApplicable, NotJudged):
        raise
    except Exception as error:
        if target.record is not None:  # The program itself has made the call many times.
            raise CallFailed(f"calling the model again, outside its program, fails: {described(error)}") from error
        yield _fails(target, error)
        return
    if logits is not None:
        shape = tuple(target.probe.x.shape)
        if logits.dim() != 3 or tuple(logits.shape[:2]) != shape:
            yield _shape(shape, list(logits.shape))
            return
        if target.n_vocab is not None and logits.shape[2] < target.n_vocab:
            yield _too_few_logits(logits.shape[2], target.n_vocab)
            return
    values = [logits] if logits is not None else _floats(output)
    if not all(bool(torch.isfinite(value).all()) for value in values):
        yield _not_finite(target, values)


def _floats(output: Any) -> list[Tensor]:
    return [tensor for tensor in tensors_of(output) if tensor.is_floating_point()]


def _fails(target: Target, error: Exception) -> Finding:
    takes_ids = "model(x) must accept int64 ids [B, T] and return logits [B, T, V], or an object with `.logits`."
    return Finding(
        code="forward_fails",
        title="The model fails on a batch.",
        evidence=described(error).strip().splitlines()[0],
        why="The remaining checks need a forward pass.",
        fix=takes_ids
        if target.tokens
        else "Check the shapes and types of the batch; if the model is called in another way, pass it as "
        "Case(…, forward=lambda model, batch: …).",
    )


def _shape(x: tuple[int, ...], output: list[int]) -> Finding:
    if output[1:2] == [1] and len(output) == 3:
        fix = "Return the logits of every position; pass targets if the model does so only with them: model(x, y)."
    else:
        fix = "Project to the vocabulary last, and keep the order batch, time, vocabulary."
    return Finding(
        code="output_shape",
        title=f"The model returns {output} instead of logits [B, T, V].",
        evidence=f"x is {list(x)}; the output is {output}",
        why="A loss over the wrong dimension runs without an error and trains the wrong thing.",
        fix=fix,
    )


def _too_few_logits(n_logits: int, n_vocab: int) -> Finding:
    return Finding(
        code="output_shape",
        title=f"The model returns {n_logits:,} logits for each position; the tokenizer has {n_vocab:,} tokens.",
        evidence=f"the last size of the logits is {n_logits:,}",
        why="Tokens without a logit can never be predicted, and as targets they raise an index error.",
        fix=f"Give the last linear layer {n_vocab:,} outputs.",
    )


def _first_not_finite(model: nn.Module, run: Callable[[], object]) -> tuple[str, bool, Tensor] | None:
    """Return the name of the first module whose output is not finite, whether its inputs are, and that output."""
    faulty: list[tuple[str, bool, Tensor]] = []
    names = {module: name for name, module in model.named_modules()}

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        wrong = [tensor for tensor in _floats(output) if not bool(torch.isfinite(tensor).all())]
        if wrong and not faulty:
            faulty.append((names[module], all(bool(torch.isfinite(t).all()) for t in _floats(inputs)), wrong[0]))

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return faulty[0] if faulty else None


def _not_finite(target: Target, values: list[Tensor]) -> Finding:
    with target.evaluating(), torch.no_grad():
        first = _first_not_finite(target.model, lambda: target.output(target.probe.batch))
    wrong = first[2] if first else next(v for v in values if not bool(torch.isfinite(v).all()))
    masked = next((name for name, m in target.model.named_modules() if isinstance(m, _ATTENTION)), None)
    name = ""
    if first is not None:
        name = first[0]
        inputs = "its inputs are finite" if first[1] else "its inputs are not finite either, so it arises before it"
        place = f"the first module with such an output is {name or 'the model'}; {inputs}"
    elif masked is not None:
        place = "with hooks on its modules every output is finite, so it arises in the faster path that torch takes "
        place += "for nn.TransformerEncoder and nn.MultiheadAttention in evaluation mode without hooks"
    else:
        place = "with hooks on its modules every output is finite"
    what = "logits are" if target.tokens else "output is"
    return Finding(
        code="not_finite",
        title=f"The {what} not finite{_when(target)}.",
        evidence=f"{place}; {_rows(wrong)}{_trained_on(target)}",
        why="One NaN spreads to every weight at the next step."
        if target.record is None or not _losses(target)
        else "What the model computes in evaluation is NaN, whatever it learns.",
        fix="Look there for a division by zero, the log or root of a negative number, or a row of scores that is fully "
        "masked." + (_MASKS if masked is not None else ""),
        location=class_line(target.model, name or masked or ""),
    )


_ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerDecoder)
_MASKS = (
    " In masks of nn.MultiheadAttention and nn.Transformer, True marks what is ignored: key_padding_mask must be True "
    "at padding, so a mask of real tokens has to be inverted."
)


def _losses(target: Target) -> list[float]:
    """Return the finite losses that the user's own loop has computed."""
    updates = target.record.updates if target.record is not None else ()
    return [loss for update in updates for loss in update.losses if math.isfinite(loss)]


def _when(target: Target) -> str:
    """Return in which state of the model the output is not finite, as far as it is known."""
    if _losses(target):
        return " in evaluation mode"
    return " before any training" if target.untrained and target.record is None else ""


def _trained_on(target: Target) -> str:
    """Return that the loop's own loss is finite, if it is."""
    losses = _losses(target)
    return f"; the loss of the first update is finite, {losses[0]:.4g}" if losses else ""


def _rows(tensor: Tensor) -> str:
    """Return which rows of the batch have values that are not finite."""
    if tensor.dim() < 2:
        return "in one value"
    wrong = ~torch.isfinite(tensor.flatten(1)).all(dim=1)
    rows = wrong.nonzero().flatten().tolist()
    if len(rows) == len(tensor):
        return f"in all {len(rows)} rows"
    more = " …" if len(rows) > MAX_SHOWN_ROWS else ""
    return f"in rows {', '.join(map(str, rows[:MAX_SHOWN_ROWS]))}{more} of {len(tensor)}"
