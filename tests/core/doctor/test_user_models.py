"""User models and update functions: healthy ones have no findings, and faults of updates are found.

Many of these were false alarms or misses, found by tests written without reading the checks.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from tests.core.doctor.test_checks import Small, T, V, case, codes, pair
from tui_lab import Case, examine
from tui_lab.core.doctor.checks.training.gradients import frozen_parameters

Loop = Callable[[nn.Module, Sequence[Optimizer], Tensor, Tensor], object]


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def padded(step: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths: x padded with 0, y with -100."""
    x, y = (ids.clone() for ids in pair(step))
    for row, length in enumerate((4, 6, 7, T)):
        x[row, length:], y[row, length:] = 0, -100
    return x, y


def prompted(step: int) -> tuple[Tensor, Tensor]:
    """Only the last quarter of each row is asked for."""
    x, y = (ids.clone() for ids in pair(step))
    y[:, : 3 * T // 4] = -100
    return x, y


def labels_as_inputs(step: int) -> tuple[Tensor, Tensor]:
    x, _ = pair(step)
    return x, x.clone()


def shifting(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].reshape(-1, V), y[:, 1:].reshape(-1))


@pytest.mark.parametrize("batches", [padded, prompted])
def test_ignored_padding_and_prompts_are_healthy(batches: Any) -> None:
    assert examine(case(batches=batches)).findings == ()


def test_loss_that_shifts_is_healthy_with_the_inputs_as_labels() -> None:
    assert examine(case(batches=labels_as_inputs, loss=shifting)).findings == ()
    assert codes(examine(case(loss=shifting)))[:1] == ["double_shift"]


def test_head_that_starts_at_zero_is_healthy() -> None:
    class ZeroHead(Small):
        def __init__(self) -> None:
            super().__init__()
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    assert examine(case(ZeroHead())).findings == ()


def test_position_table_must_be_long_enough() -> None:
    class Placed(Small):
        rows = T

        def __init__(self) -> None:
            super().__init__()
            tokens = self.tokens
            del self.tokens
            self.places, self.tokens = nn.Embedding(self.rows, 16), tokens
            nn.init.normal_(self.places.weight, 0.0, 0.1)

        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x) + self.places(torch.arange(x.shape[1]))
            logits: Tensor = self.head(torch.tanh(self.mix(e + e.cumsum(1) / 5)))
            return logits

    class Short(Placed):
        rows = 20

    assert examine(case(Placed(), n_vocab=V)).findings == ()
    long = torch.randint(0, V, (4, 25), generator=torch.Generator().manual_seed(0))
    [finding] = examine(case(Short(), batches=(long[:, :-1], long[:, 1:]))).findings
    assert finding.code == "forward_fails" and "index out of range" in finding.evidence


def test_output_may_be_a_tuple_that_starts_with_the_logits() -> None:
    class Both(Small):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), None

    assert examine(case(Both())).findings == ()


def test_bidirectional_model_needs_causal_false() -> None:
    class Encoder(Small):
        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x)
            logits: Tensor = self.head(torch.tanh(self.mix(e + e.sum(dim=1, keepdim=True))))
            return logits

    assert codes(examine(case(Encoder()))) == ["causal_leak"]
    assert examine(case(Encoder(), causal=False)).findings == ()


def accumulating() -> Loop:
    calls = [0]

    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        model.train()
        (loss_of(model, x, y) / 3).backward()  # type: ignore[no-untyped-call]
        calls[0] += 1
        if calls[0] % 3 == 0:
            optimizers[0].step()
            optimizers[0].zero_grad()

    return update


def scheduled() -> Loop:
    calls = [0]

    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        model.train()
        calls[0] += 1
        optimizers[0].param_groups[0]["lr"] = 3e-3 * min(1.0, calls[0] / 10)
        optimizers[0].zero_grad()
        loss_of(model, x, y).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()

    return update


@pytest.mark.parametrize("loop", [accumulating, scheduled])
def test_updates_that_count_their_calls_are_healthy(loop: Callable[[], Loop]) -> None:
    model = Small()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    assert examine(case(model, optimizer=optimizer, update=loop())).findings == ()
    assert optimizer.param_groups[0]["lr"] == 3e-3 and not optimizer.state


def plain(
    *, backward: bool = True, step: bool = True, clear: str = "before", sign: float = 1.0, clip: float = 0.0
) -> Loop:
    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        model.train()
        if clear == "before":
            optimizers[0].zero_grad()
        loss = sign * loss_of(model, x, y)
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        if clear == "between":
            optimizers[0].zero_grad()
        if step:
            optimizers[0].step()

    return update


@pytest.mark.parametrize(
    ("loop", "code"),
    [
        (plain(backward=False), "no_backward"),
        (plain(step=False), "no_step"),
        (plain(clear="between"), "cleared_before_step"),
        (plain(clear="never"), "no_zero_grad"),
        (plain(sign=-1.0), "gradient_ascent"),
        (plain(clip=1e-8), "gradient_clipped"),
    ],
)
@pytest.mark.usefixtures("without_trials")
def test_fault_of_an_update_is_found(loop: Loop, code: str) -> None:
    model = Small()
    assert codes(examine(case(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), update=loop)))[:1] == [code]


def test_update_of_the_enclosing_model_is_examined_on_copies() -> None:
    model = Small()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def update(_: nn.Module, __: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss_of(model, x, y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()

    torch.manual_seed(5)
    generator = torch.get_rng_state()
    assert examine(case(model, optimizer=optimizer, update=update)).healthy
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items()) and not optimizer.state
    assert torch.equal(torch.get_rng_state(), generator) and scheduler.last_epoch == 0


@pytest.mark.usefixtures("without_trials")
def test_update_of_another_model_is_found() -> None:
    other = Small()

    def update(_: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        optimizers[0].zero_grad()
        loss_of(other, x, y).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()

    assert codes(examine(case(update=update)))[:1] == ["update_ignores_model"]


@pytest.mark.usefixtures("without_trials")
def test_shift_that_wraps_around_is_found() -> None:
    def rolled(step: int) -> tuple[Tensor, Tensor]:
        x, _ = pair(step)
        return x, x.roll(-1, dims=1)

    [finding] = examine(case(batches=rolled)).findings
    assert finding.code == "shifted_targets" and "x[0]" in finding.evidence


@pytest.mark.parametrize(
    ("loss", "code"),
    [
        (lambda out, y: F.nll_loss(out.flatten(0, 1), y.flatten()), "missing_log_softmax"),
        (lambda out, y: F.cross_entropy(out.reshape(len(out), V, -1), y), "scrambled_logits"),
        (lambda out, y: (out.softmax(-1) * 0).log().sum(), "not_finite"),
    ],
)
@pytest.mark.usefixtures("without_trials")
def test_wrong_losses_are_found(loss: Any, code: str) -> None:
    assert codes(examine(case(loss=loss)))[:1] == [code]


@pytest.mark.usefixtures("without_trials")
def test_activation_on_the_head_is_found() -> None:
    class Active(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    assert codes(examine(case(Active())))[:1] == ["activated_logits"]


@pytest.mark.usefixtures("without_trials")
def test_high_weight_decay_and_dropout_are_found() -> None:
    model = Small()
    decaying = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=200.0)
    assert "weight_decay_too_high" in codes(examine(Case(model, pair, optimizer=decaying)))
    assert "dropout_too_high" in codes(examine(case(dropout=0.9)))


@pytest.mark.usefixtures("without_trials")
def test_model_that_changes_its_weights_in_forward_is_found_and_restored() -> None:
    class Normalizing(Small):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.head.weight.mul_(0.9)
            return super().forward(x)

    model = Normalizing()
    before = model.head.weight.detach().clone()
    report = examine(case(model))
    assert codes(report)[:1] == ["weights_change_in_forward"] and "head.weight" in report.findings[0].evidence
    assert torch.equal(model.head.weight, before)


@pytest.mark.usefixtures("without_trials")
def test_embedding_with_a_largest_norm_may_scale_its_rows() -> None:
    class Scaled(Small):
        def __init__(self) -> None:
            super().__init__()
            self.tokens.max_norm = 0.5

    assert "weights_change_in_forward" not in codes(examine(case(Scaled())))


@pytest.mark.parametrize("draw", [pytest.param(random.random, marks=pytest.mark.slow), np.random.rand])
def test_layers_dropped_by_seeded_generators_are_healthy(draw: Callable[[], float]) -> None:
    class Dropping(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits if not self.training or draw() < 0.7 else logits + logits.detach() * 0.01

    report = examine(case(Dropping()))
    assert report.findings == () and report.crashed == () and "causality" in report.passed


@pytest.mark.usefixtures("without_trials")
def test_noise_that_no_seed_sets_is_found_and_other_checks_go_on() -> None:
    generator = torch.Generator()

    class Noisy(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits + torch.randn(logits.shape, generator=generator) * 0.1

    report = examine(case(Noisy()))
    assert codes(report) == ["nondeterministic"]
    assert {"initial loss", "gradients", "optimizer parameters"} <= set(report.passed)
    assert "causality" in {unchecked.check for unchecked in report.not_judged}


def test_state_that_is_kept_between_calls_is_a_hint() -> None:
    class Stateful(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            logits = logits + getattr(self, "state", 0.0)
            self.state = float(logits.detach().mean())
            return logits

    report = examine(case(Stateful()))
    assert report.findings == () and "nondeterministic" in {hint.code for hint in report.hints}


def test_warm_up_from_zero_is_healthy() -> None:
    model = Small()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert {"lr_too_low", "cannot_overfit"}.isdisjoint(codes(examine(case(model, optimizer=optimizer))))


def test_frozen_table_of_sines_is_healthy() -> None:
    class Placed(Small):
        def __init__(self) -> None:
            super().__init__()
            angles = torch.arange(T)[:, None] / 10 ** torch.arange(8)
            self.table = nn.Parameter(torch.cat([angles.sin(), angles.cos()], dim=1), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x) + 0.1 * self.table[: x.shape[1]]
            logits: Tensor = self.head(torch.tanh(self.mix(e + e.cumsum(1) / T)))
            return logits

    assert examine(case(Placed())).findings == ()


class LowRank(nn.Module):
    """A frozen linear layer and two trained factors, with the names of peft."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.base_layer(x) + self.lora_B(self.lora_A(x))
        return changed


@pytest.mark.parametrize(("freezes_a_factor", "n_named"), [(False, 0), (True, 1)])
def test_weights_below_trained_adapters_are_frozen_on_purpose(freezes_a_factor: bool, n_named: int) -> None:
    model = Small().requires_grad_(False)
    model.head = LowRank(nn.Linear(model.head.in_features, model.head.out_features))  # type: ignore[assignment]
    model.head.lora_A.requires_grad_(not freezes_a_factor)
    found = list(frozen_parameters(model))
    assert [finding.code for finding in found] == ["frozen_parameters"] * n_named
    assert all("lora_A" in finding.evidence and "base_layer" not in finding.evidence for finding in found)


@pytest.mark.parametrize(("detaches", "expected"), [(True, ["missing_gradient"]), (False, [])])
def test_embedding_whose_output_is_detached_is_found_although_the_head_shares_it(
    detaches: bool, expected: list[str]
) -> None:
    class Tied(Small):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(16, 16)
            self.head = nn.Linear(16, V)
            self.head.weight = self.tokens.weight

        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x)
            e = e.detach() if detaches else e
            logits: Tensor = self.head(torch.tanh(self.mix(e + e.cumsum(1) / T)))
            return logits

    assert codes(examine(case(Tied()))) == expected


@pytest.mark.usefixtures("without_trials")
def test_layers_of_a_sequential_that_are_cut_off_are_no_experts() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(8, 8)
    y = torch.randint(4, (8,))

    def loss(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model[1:](model[0](batch[0]).detach()), batch[1])

    program = Case(model, [(x, y)], loss=loss, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3))
    assert "missing_gradient" in codes(examine(program))


def test_expert_that_no_token_chooses_is_a_hint() -> None:
    class Mixture(Small):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x)
            h = torch.tanh(self.mix(e + e.cumsum(1) / T))
            h = h + torch.where((x % 2 == 0)[..., None], self.experts[0](h), self.experts[1](h))
            logits: Tensor = self.head(h)
            return logits

    report = examine(case(Mixture()))
    assert report.findings == () and "missing_gradient" in {hint.code for hint in report.hints}


def test_finding_about_the_data_leaves_the_other_checks() -> None:
    report = examine(case(batches=lambda step: pair(0)))
    assert codes(report) == ["constant_batch"] and "overfit" in report.passed
