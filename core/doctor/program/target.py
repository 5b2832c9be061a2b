"""What the doctor diagnoses: a training run in parts, from a config, from user code or from a script."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.findings import NotApplicable, NotJudged
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.loop.rehearsal import rehearse
from tui_lab.core.doctor.program.batch import Batch, first_rows, n_rows, on_device
from tui_lab.core.doctor.program.copies import Copies, unfaithful
from tui_lab.core.doctor.program.needed_gradients import with_needed_gradients
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.tokens import PAIRS, TokenView
from tui_lab.core.doctor.program.update_state import UpdateState
from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum
from tui_lab.core.user_code.import_file import seed_everything as seed_everything

Pair = tuple[Tensor, Tensor]
Forward = Callable[[nn.Module, Batch], Any]
LossFunction = Callable[[nn.Module, Batch], Tensor]
Update = Callable[[nn.Module, Sequence[Optimizer], Batch], object]

PROBE_ROWS = 3
PROBE_TOKENS = 16
PROBE_TARGETS = 8
"""Counted targets that shortened rows keep, if there are as many: the loss may skip a prompt at the start of a row."""
MAX_CALLS = 33
"""Updates to wait for a step: more than any gradient accumulation over calls that the doctor supports."""


@dataclass(frozen=True)
class Draws:
    """The examples that a step drew, and those that its order declares. Both: ids [B]."""

    drawn: np.ndarray[Any, Any]
    declared: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Probe:
    """A small part of the first batches: enough for most checks, and cheap with a large vocabulary.

    x, y: its ids and targets [b, t]. Only a program with tokens has them.
    """

    batch: Batch
    tokens: TokenView | None

    @property
    def x(self) -> Tensor:
        """The ids int64 [b, t]. Raises NotApplicable for a program without tokens."""
        return required(self.tokens).x(self.batch)

    @property
    def y(self) -> Tensor:
        """The targets int64 [b, t]. Raises NotApplicable for a program without tokens, NotJudged without targets."""
        return targets_of(required(self.tokens), self.batch)


def required(tokens: TokenView | None) -> TokenView:
    """Return `tokens`. Raises NotApplicable if there is none."""
    if tokens is None:
        raise NotApplicable("the model does not map token ids [B, T] to logits [B, T, V]")
    return tokens


def targets_of(tokens: TokenView, batch: Batch) -> Tensor:
    """Return the targets int64 [B, T] of a batch. Raises NotJudged if it is not known where they are."""
    if tokens.y is None:
        raise NotJudged("it is not known which tensor holds the targets")
    return tokens.y(batch)


@dataclass(frozen=True)
class Target:
    """A training run that checks can execute in parts. None means unknown; a check that needs it is not judged.

    model: the model that is trained.
    batch: step → a batch of any form.
    forward: (model, batch) → what the model returns.
    loss_function: (model, batch) → the mean loss that is trained on; None: torch's cross-entropy is assumed.
    output_loss: (what the model returned, batch) → the loss; None: the loss cannot be computed from outputs alone.
    no_optimizer: why there are none, if `optimizers` is empty.
    update: makes one update of the given model and optimizers on a batch, as the training does.
    tokens: where batches and outputs hold ids, targets and logits; None: not a model over tokens.
    targets: batch → what the loss compares the output with, of any form.
    record: what the real training loop did; checks use `loop`.
    update_state: what the update keeps between its calls; every copy for a trial begins with it as it was.
    fixed_shape: whether the loss accepts only batches of their full size.
    keeps_training_flag: whether the model's own `training` stays set in evaluations, not that of its parts, since it
    returns something else without it, such as no auxiliary heads.
    ignored: the target that the loss skips.
    varies: whether `batch` can return more than one batch.
    n_vocab: the tokenizer's vocabulary size.
    vocabularies: those of the tokenizers of a script, of which any may have made the ids; None: not looked for.
    paddings: ids that a tokenizer of a script has for padding alone.
    answer_openings: the ids with which the chat templates of a script's tokenizers open an answer.
    rule: x → the targets that the task defines, `ignored` where it defines none, UNKNOWN where x does not determine it.
    pinned: how many examples are meant to be repeated; 0: none.
    draws: step → the examples that it drew and those that it should draw.
    validation: () → how many of how many validation examples are training examples.
    d_head: the size of an attention head.
    untied: whether no two modules may share parameters.
    dropout: the dropout rate that is meant to act in training.
    untrained: whether the model still has its initial weights.
    causal: whether a position may see only itself and earlier ones.
    evaluate: (model, batch) → the user's evaluation step.
    generate: (model, ids [1, T], n) → ids [1, T + n].
    show: token id → text.
    recognized: what of the program was recognized, in words, for the report: "50 updates of the loop", "dict batches".
    unseen: what no check can see of this program, each with a way to change that.
    """

    model: nn.Module
    optimizers: Sequence[Optimizer]
    batch: Callable[[int], Batch]
    forward: Forward
    loss_function: LossFunction | None
    update: Update
    ignored: int
    no_optimizer: str = "no optimizer was given"
    output_loss: Callable[[Any, Batch], Tensor] | None = None
    tokens: TokenView | None = PAIRS
    targets: Callable[[Batch], Any] | None = None
    record: LoopRecord | None = None
    update_state: UpdateState | None = None
    fixed_shape: bool = False
    keeps_training_flag: bool = False
    varies: bool = True
    n_vocab: int | None = None
    vocabularies: frozenset[int] | None = None
    paddings: frozenset[int] = frozenset()
    answer_openings: frozenset[tuple[int, ...]] = frozenset()
    rule: Callable[[Tensor], Tensor] | None = None
    pinned: int | None = None
    draws: Callable[[int], Draws] | None = None
    validation: Callable[[], tuple[int, int]] | None = None
    d_head: int | None = None
    untied: bool | None = None
    dropout: float | None = None
    untrained: bool = True
    causal: bool = True
    evaluate: Callable[[nn.Module, Batch], object] | None = None
    generate: Callable[..., Tensor] | None = None
    show: Callable[[int], str] = str
    seed: int = 0
    recognized: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def pair(self, step: int) -> Pair:
        """Return the ids and targets of a batch, int64 [B, T] both. Raises NotApplicable or NotJudged without them."""
        tokens = required(self.tokens)
        batch = self.batch(step)
        return tokens.x(batch), targets_of(tokens, batch)

    @cached_property
    def probe(self) -> Probe:
        """Rows of the first steps, shortened where the model accepts shorter rows.

        Their length is PROBE_TOKENS, doubled until PROBE_TARGETS counted targets remain.
        Propagates exceptions raised by `batch`.
        """
        batch = on_device(self.batch(0) if self.fixed_shape else self._first_rows(), self.device)
        whole = Probe(batch, self.tokens)
        tokens = self.tokens
        if tokens is None or tokens.y is None or tokens.shortened is None or self.fixed_shape:
            return whole
        n_targets = min(PROBE_TARGETS, self._n_counted(whole))
        length = PROBE_TOKENS
        short = whole
        while length < whole.x.shape[1]:
            short = Probe(tokens.shortened(batch, length), tokens)
            if self._n_counted(short) >= max(1, n_targets):
                break
            length *= 2
        else:
            return whole
        try:
            with self.evaluating(), torch.no_grad():
                self.output(short.batch)
        except Exception:  # The model accepts rows of one length only.
            return whole
        return short

    def _n_counted(self, probe: Probe) -> int:
        return int((probe.y != self.ignored).sum())

    @property
    def loop(self) -> LoopRecord:
        """What the training loop did: the record of the real one, or else of a rehearsal, which is made once.

        Raises NotJudged without an optimizer, and whatever the update raises.
        """
        if self.record is not None:
            return self.record
        self.require_optimizers()
        rehearsed = self._rehearsed
        if isinstance(rehearsed, Exception):
            raise rehearsed
        return rehearsed

    def require_optimizers(self) -> None:
        """Raise NotJudged if there is no optimizer, so that no update can be tried."""
        if not self.optimizers:
            raise NotJudged(self.no_optimizer)

    @cached_property
    def _rehearsed(self) -> LoopRecord | Exception:
        try:
            return rehearse(self)
        except Exception as error:  # `loop` raises it, each time without another rehearsal.
            return error

    def _first_rows(self) -> Batch:
        """Return PROBE_ROWS rows, one of each of the first batches where these have the same shape."""
        first = self.batch(0)
        if self.tokens is not PAIRS or not self.varies:
            return first_rows(first, PROBE_ROWS)
        pairs = [first, *(self.batch(step) for step in range(1, PROBE_ROWS))]
        if len({tuple(pair[0].shape[1:]) for pair in pairs}) > 1:  # Padded to the longest row of each batch.
            return first_rows(first, PROBE_ROWS)
        rows = tuple(torch.cat([pair[i][:PROBE_ROWS] for pair in pairs])[:PROBE_ROWS] for i in (0, 1))
        return rows[0].contiguous(), rows[1].contiguous()

    def fresh(self) -> "Target":
        """Return a copy that trials may change; its optimizers hold the parameters of the copied model.

        Functions that refer to the model or its optimizers, such as an update that uses a scheduler, get the copies.
        Raises NotJudged if the model cannot be copied.
        """
        if self._no_copy:
            raise NotJudged(self._no_copy)
        if self.update_state is not None:
            self.update_state.restore()
        fresh = self._copied()
        if "probe" in vars(self):
            vars(fresh)["probe"] = self.probe
        vars(fresh)["_no_copy"] = ""
        return fresh

    def _copied(self) -> "Target":
        copies = Copies(self.model, list(self.optimizers))
        return replace(
            self,
            model=copies.model,
            optimizers=copies.optimizers,
            forward=copies.rebound(self.forward),
            loss_function=copies.rebound(self.loss_function),
            output_loss=copies.rebound(self.output_loss),
            update=copies.rebound(self.update),
        )

    @cached_property
    def _no_copy(self) -> str:
        """Why the model cannot be copied; "" if it can."""
        try:
            copied = self._copied()
        except Exception as error:
            return f"the model cannot be copied for trials: {type(error).__name__}: {error}"
        try:
            original_batch = self.probe.batch
            reason = unfaithful(
                self.model, copied.model, lambda: self.outputs(original_batch), lambda: copied.outputs(original_batch)
            )
        except Exception:  # The model fails on its batch, which the check of the forward pass reports.
            return ""
        return f"the model cannot be copied for trials: {reason}" if reason else ""

    def outputs(self, batch: Batch) -> list[Tensor]:
        """Return every tensor of the output in evaluation mode, with the target's seed."""
        with self.evaluating():
            return list(tensors_of(self.output(batch)))

    @property
    def device(self) -> torch.device:
        """The device of the first parameter."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def maximizes(self) -> bool:
        """Whether the steps follow the gradient: an optimizer was created with maximize=True, or the loop adds it."""
        if self.record is not None and self.record.climbs_by_hand:
            return True
        return any(group.get("maximize") for optimizer in self.optimizers for group in optimizer.param_groups)

    def output(self, batch: Batch) -> Any:
        """Return what the model returns for a batch, with the target's seed, in the model's present mode."""

        def call() -> Any:
            seed_everything(self.seed)
            return self.forward(self.model, on_device(batch, self.device))

        return with_needed_gradients(call)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits [B, T, V] of the probe with the ids `x`; as `output`. Raises NotApplicable without tokens."""
        tokens = required(self.tokens)
        return tokens.logits(self.output(tokens.with_x(self.probe.batch, x)))

    def logits_of(self, batch: Batch) -> Tensor:
        """Return logits [B, T, V] of a batch; as `output`. Raises NotApplicable for a program without tokens."""
        return required(self.tokens).logits(self.output(batch))

    def plain_loss(self) -> float:
        """Return the probe's mean cross-entropy in evaluation mode, whatever the run's own loss is."""
        with self.evaluating(), torch.no_grad():
            return float(mean_cross_entropy(self.logits_of(self.probe.batch), self.probe.y, self.ignored))

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss that is trained on, with the target's seed."""
        if self.loss_function is None:
            if self.tokens is None:
                raise NotJudged("no loss was given: Case(…, loss=(model, batch) → the loss)")
            tokens = self.tokens
            y = targets_of(tokens, batch).to(self.device)
            return mean_cross_entropy(self.logits_of(batch), y, self.ignored)
        function = self.loss_function

        def call() -> Tensor:
            seed_everything(self.seed)
            return function(self.model, on_device(batch, self.device))

        return with_needed_gradients(call)

    def apply_update(self, batch: Batch, seed: int | None = None) -> None:
        """Make one update of this target's model, with `seed` or the target's own."""
        seed_everything(self.seed if seed is None else seed)
        self.update(self.model, self.optimizers, on_device(batch, self.device))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the model into evaluation mode, and restore the mode of every module afterwards."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        self.model.training = self.keeps_training_flag
        try:
            yield
        finally:
            self.model.training = False
            for module in training:
                module.training = True

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of every parameter group."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr


def trial_rows(batch: Batch, n: int, *, whole: bool) -> Batch:
    """Return the first `n` rows of a batch, or the `whole` batch."""
    return batch if whole else first_rows(batch, min(n, n_rows(batch)))


def mean_cross_entropy(logits: Tensor, y: Tensor, ignored: int) -> Tensor:
    """Return the mean cross-entropy of logits [B, T, V] over the targets y [B, T] that are not `ignored`."""
    return cross_entropy_sum(logits.float(), y, ignored) / (y != ignored).sum().clamp(min=1)
