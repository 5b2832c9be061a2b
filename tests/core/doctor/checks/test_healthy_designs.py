"""Designs of healthy public programs are not findings: sampling models, bigram models, steps by hand, fixed shapes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import Causal, pairs_case, results, scores_target
from tests.core.doctor.checks.programs import V as N_VOCAB
from tests.core.doctor.loop.judged import codes, judged, loss_of
from tests.core.doctor.script.test_target import Small, TimeFirst, V, outside, pair
from tests.core.doctor.script.training import LR, examined
from tests.core.doctor.small_transformer import Attention, Block, Decoder, target_of
from tests.core.watch.loops import start
from tui_lab.core.doctor import runner
from tui_lab.core.doctor.checks.model import attention, causality, determinism, forward, residual
from tui_lab.core.doctor.checks.registry import Check
from tui_lab.core.doctor.findings import Crashed, Finding
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.measures.trained_targets import trained_targets
from tui_lab.core.doctor.program.target import Target, required
from tui_lab.core.doctor.runner import examine


def by_hand(rate: float) -> None:
    model = start()
    for step in range(5):
        model.zero_grad()
        loss_of(model, step).backward()  # type: ignore[no-untyped-call]
        for p in model.parameters():
            if p.grad is not None:
                p.data.add_(p.grad, alpha=-rate)


def test_steps_by_hand_are_no_missing_steps() -> None:
    with LoopRecorder() as recorder:
        by_hand(0.1)
    assert recorder.record().moves_by_hand
    assert codes(judged(lambda: by_hand(0.1))) == []


def test_weights_that_stay_do_not_move_by_hand() -> None:
    with LoopRecorder() as recorder:
        by_hand(0.0)
    assert not recorder.record().moves_by_hand


def test_steps_of_an_optimizer_are_not_by_hand() -> None:
    with LoopRecorder() as recorder:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(5):
            optimizer.zero_grad()
            loss_of(model, step).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert not recorder.record().moves_by_hand


class Draws(nn.Linear):
    """Adds noise in evaluation, too, as the latent variable of a variational autoencoder."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.randn(len(x), 3)


class AlwaysDropout(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5)


class TrainingDropout(nn.Module):
    """Puts its dropout back into training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(4, 3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        self.dropout.train()
        dropped: Tensor = self.dropout(self.linear(x))
        return dropped


class DroppedWeights(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        q = super().forward(x)[:, None]
        return F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)[:, 0]


class CreatesLayers(nn.Linear):
    """Applies a layer that is new in each forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        created: Tensor = nn.Linear(3, 3)(super().forward(x))
        return created


def classes(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: Draws(4, 3), ("hint", "random_in_eval")),
        (lambda: CreatesLayers(4, 3), ("finding", "random_in_eval")),
        (lambda: AlwaysDropout(4, 3), ("finding", "dropout_in_eval")),
        (TrainingDropout, ("finding", "dropout_in_eval")),
        (lambda: DroppedWeights(4, 3), ("finding", "dropout_in_eval")),
    ],
)
def test_random_numbers_in_evaluation_are_a_finding_if_dropout_or_new_layers_explain_them(
    model: Callable[[], nn.Module], expected: tuple[str, str]
) -> None:
    target = scores_target(model(), classes, F.cross_entropy)
    assert results(determinism.check, target) == [expected]


class Bigram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(N_VOCAB, N_VOCAB)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.table(x)
        return logits


class UnusedMean(Causal):
    """Computes the running mean, and does not add it."""

    def forward(self, x: Tensor) -> Tensor:
        e = self.tokens(x)
        e.cumsum(dim=1)
        logits: Tensor = self.head(torch.tanh(self.mix(e)))
        return logits


@pytest.mark.parametrize(("model", "kind"), [(Bigram, "hint"), (UnusedMean, "finding")])
def test_missing_context_is_a_finding_only_where_something_mixes_positions(
    model: Callable[[], nn.Module], kind: str
) -> None:
    assert results(causality.check, pairs_case(model())) == [(kind, "no_context")]


class EightRows(nn.Linear):
    """Accepts batches of eight rows only, as a model that gets a state of this size."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.zeros(8, 1)


def test_model_of_one_batch_size_is_examined_with_whole_batches() -> None:
    report = examine(scores_target(EightRows(4, 3), classes, F.cross_entropy))
    assert report.findings == () and report.crashed == () and "forward" in report.passed


class Fails(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("it needs the state of its program")


@pytest.mark.parametrize("is_script", [True, False])
def test_failed_call_outside_a_script_is_no_finding(is_script: bool) -> None:
    target = scores_target(Fails(4, 3), classes, F.cross_entropy)
    report = examine(replace(target, record=LoopRecord() if is_script else None))
    assert [finding.code for finding in report.findings] == ([] if is_script else ["forward_fails"])
    assert report.crashed == ()


def test_error_of_a_check_itself_is_a_crash_after_a_failed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(target: Target) -> Iterator[Finding]:
        target.output(target.probe.batch)
        yield from ()

    def fails(target: Target) -> Iterator[Finding]:
        yield from ()
        raise IndexError("of the check")

    checks = (Check("forward", forward.check), Check("calls", calls), Check("fails", fails))
    monkeypatch.setattr(runner, "CHECKS", checks)
    report = examine(replace(scores_target(Fails(4, 3), classes, F.cross_entropy), record=LoopRecord()))
    assert [unchecked.check for unchecked in report.not_judged] == ["forward", "calls"]
    assert report.crashed == (Crashed("fails", "IndexError", "of the check"),)


class RoundedWeights(Attention):
    def weights(self, scores: Tensor) -> Tensor:
        return super().weights(scores.float()).bfloat16()


def test_attention_weights_rounded_to_half_precision_are_judged() -> None:
    model = Decoder()
    for block in model.blocks:
        assert isinstance(block, Block)
        block.attention = RoundedWeights("")
    assert results(attention.check, target_of(model.bfloat16())) == []


def test_factors_of_a_schedule_that_stay_small_are_part_of_the_rate() -> None:
    def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.01 * min(1.0, (step + 1) / 4))

    [group] = examined(Small(), outside, schedule=schedule).optimizers[0].param_groups
    assert group["lr"] == group["initial_lr"] == pytest.approx(0.01 * LR)


def transposed(model: nn.Module, step: int) -> Tensor:
    x, y = pair(step)
    return F.cross_entropy(model(x.t()).transpose(0, 1).reshape(-1, V), y.reshape(-1))


def test_positions_first_are_seen_where_the_logits_are_transposed() -> None:
    target = examined(TimeFirst(), transposed)
    assert required(target.tokens).x(target.batch(0)).shape == pair(0)[0].shape
    assert torch.equal(target.pair(0)[1], pair(0)[1]) and results(causality.check, target) == []


class PadsLabels(Small):
    """As in transformers, for rows of several lengths: labels of padding are -100."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        assert labels is not None
        logits = self.logits(x)
        following = F.pad(labels, (0, 1), value=-100)[:, 1:]
        return {"loss": F.cross_entropy(logits.reshape(-1, V), following.reshape(-1)), "logits": logits}


def padded_labels(model: nn.Module, step: int) -> Tensor:
    tokens = pair(step)[0]
    labels = tokens.clone()
    for row in range(len(labels)):
        labels[row, 3 + row % 3 :] = -100
    loss: Tensor = model(tokens, labels=labels)["loss"]
    return loss


def test_labels_with_padding_are_shifted_once() -> None:
    trained = trained_targets(examined(PadsLabels(), padded_labels))
    assert (trained.shift, trained.view_shift) == (1, 0)


class Cache:
    """Keeps what it was given, as the cache of transformers does."""

    def __init__(self) -> None:
        self.vectors: list[Tensor] = []


class Caching(Block):
    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        assert cache is not None
        cache.vectors.append(x)
        return super().forward(x) + sum(cache.vectors[:-1], torch.zeros_like(x))


class Cached(Decoder):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Caching(""), Caching("")])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.placed(self.tokens(ids))
        for block in self.blocks:
            x = block(x, cache=Cache())
        logits: Tensor = self.head(self.norm(x))
        return logits


def test_blocks_get_their_cache_as_it_was() -> None:
    torch.manual_seed(0)
    target = target_of(Cached())
    sizes: list[int] = []
    for module in target.model.modules():
        if isinstance(module, Caching):
            module.register_forward_pre_hook(
                lambda module, args, kwargs: sizes.append(len(kwargs["cache"].vectors)), with_kwargs=True
            )
    assert results(residual.check, target) == [] and set(sizes) == {0}


class LossForTargets(Causal):
    """Returns logits, or with targets the loss alone, as nanochat does."""

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        logits = super().forward(x)
        return logits if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def test_model_that_returns_a_loss_alone_for_targets_is_called_without_them() -> None:
    target = pairs_case(LossForTargets())
    assert target.logits(target.probe.x).shape == (*target.probe.x.shape, N_VOCAB)


class Padded(Decoder):
    """Torch's encoder with a mask of padding: in evaluation, its layers get nested tensors."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(self.places.shape[1], 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, ids: Tensor) -> Tensor:
        padding = torch.zeros_like(ids, dtype=torch.bool)
        padding[0, -3:] = True
        encoded = self.encoder(self.placed(self.tokens(ids)), src_key_padding_mask=padding)
        logits: Tensor = self.head(self.norm(encoded))
        return logits


def test_nested_rows_of_an_encoder_are_no_crash() -> None:
    assert results(residual.check, target_of(Padded())) == [("not applicable", "")]
