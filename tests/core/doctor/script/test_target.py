"""What is captured of a training loop becomes a target that does the same: batches, tokens, loss, rates, weights."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import results
from tests.core.doctor.script.training import LR, UPDATES, examined
from tui_lab.core.doctor.checks.data import targets
from tui_lab.core.doctor.checks.loss import initial_loss, score_loss
from tui_lab.core.doctor.checks.training import gradients
from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.measures.loss_gradient import measured_loss
from tui_lab.core.doctor.program.batch import first_rows
from tui_lab.core.doctor.program.target import Target, mean_cross_entropy, required
from tui_lab.core.doctor.program.update_state import UpdateState
from tui_lab.core.doctor.runner import NO_TIME, examine
from tui_lab.core.doctor.script.capture import Capture
from tui_lab.core.doctor.script.target import target_from_script, whole_model

V, B, T = 13, 6, 8


class Small(nn.Module):
    """Logits [B, T, V] of ids [B, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.r, self.h = nn.Embedding(V, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, V)

    def forward(self, x: Tensor) -> Any:
        return self.logits(x)

    def logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.h(self.r(self.e(x))[0])
        return logits


class WithLoss(Small):
    """As nanoGPT: (logits, loss)."""

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        logits = self.logits(x)
        if targets is None:
            return logits[:, -1:], None
        return logits, F.cross_entropy(logits.view(-1, V), targets.view(-1))


class Flattened(Small):
    """As a well-known lecture: logits [B·T, V] together with the loss."""

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        assert targets is not None
        logits = self.logits(x).view(-1, V)
        return logits, F.cross_entropy(logits, targets.view(-1))


class ShiftsItself(Small):
    """As in transformers: labels are the inputs, and an output with `loss` and `logits`."""

    @dataclass
    class Output:
        loss: Tensor
        logits: Tensor

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        assert labels is not None
        logits = self.logits(x)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, V), labels[:, 1:].reshape(-1))
        return self.Output(loss, logits)


class MakesDecoderIds(nn.Module):
    """As an encoder-decoder of transformers: it makes the decoder's ids from the labels, unless it gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Embedding(V, V), Small()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        return F.pad(labels[:, :-1], (1, 0))

    def forward(self, input_ids: Tensor, labels: Tensor, decoder_input_ids: Tensor | None = None) -> Any:
        if decoder_input_ids is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        logits: Tensor = self.decoder(decoder_input_ids) + self.encoder(input_ids).mean(dim=1, keepdim=True)
        return ShiftsItself.Output(F.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits)


class OnlyLoss(Small):
    """Returns the loss of rows [B, T + 1], whose next ids it predicts."""

    def forward(self, x: Tensor) -> Any:
        return F.cross_entropy(self.logits(x[:, :-1]).transpose(1, 2), x[:, 1:])


class TimeFirst(Small):
    """Ids [T, B] → logits [T, B, V]."""

    def __init__(self) -> None:
        super().__init__()
        self.r = nn.GRU(8, 8)


class Pair(nn.Module):
    """An encoder and a decoder that a loop calls one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Embedding(V, 8), Small()


def rows(step: int) -> Tensor:
    return torch.randint(0, V, (B, T + 1), generator=torch.Generator().manual_seed(step))


def pair(step: int) -> tuple[Tensor, Tensor]:
    tokens = rows(step)
    return tokens[:, :-1], tokens[:, 1:]


def outside(model: nn.Module, step: int) -> Tensor:
    x, y = pair(step)
    loss: Tensor = F.cross_entropy(model(x).view(-1, V), y.reshape(-1))
    return loss


def inside(model: nn.Module, step: int) -> Tensor:
    x, y = pair(step)
    loss: Tensor = model(x, y.contiguous())[1]
    return loss


def only_loss(model: nn.Module, step: int) -> Tensor:
    loss: Tensor = model(rows(step))
    return loss


def doubled(model: nn.Module, step: int) -> Tensor:
    loss = inside(model, step)
    loss *= 2
    return loss


def labels(model: nn.Module, step: int) -> Tensor:
    tokens = rows(step)
    loss: Tensor = model(tokens, labels=tokens).loss
    return loss


def shifted(model: nn.Module, step: int) -> Tensor:
    tokens = rows(step)
    logits: Tensor = model(tokens)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0)


def time_first(model: nn.Module, step: int) -> Tensor:
    x, y = pair(step)
    logits: Tensor = model(x.T)
    return F.cross_entropy(logits.reshape(-1, V), y.T.reshape(-1))


def last_position(model: nn.Module, step: int) -> Tensor:
    """Of ids [T, B], only the last position is trained."""
    x, y = pair(step)
    logits: Tensor = model(x.T)
    return F.cross_entropy(logits[-1], y[:, -1])


def smoothed_by_hand(model: nn.Module, step: int) -> Tensor:
    """A sum over all tokens, with logits [B·T, V]."""
    x, y = pair(step)
    logits: Tensor = model(x, y.contiguous())[0]
    wanted = torch.full_like(logits, 0.1 / V).scatter(1, y.reshape(-1, 1), 0.9)
    return -(wanted * logits.log_softmax(1)).sum()


def with_z_loss(model: nn.Module, step: int) -> Tensor:
    x, y = pair(step)
    logits: Tensor = model(x)
    return F.cross_entropy(logits.view(-1, V), y.reshape(-1)) + 1e-2 * logits.logsumexp(-1).pow(2).mean()


def parts(model: Any, step: int) -> Tensor:
    x, y = pair(step)
    memory = model.encoder(x).mean()
    loss: Tensor = F.cross_entropy(model.decoder(x).view(-1, V), y.reshape(-1)) + memory.pow(2)
    return loss


def cut_off(model: Any, step: int) -> Tensor:
    """A loss of two calls, of which one gives its part no gradient."""
    x, y = pair(step)
    memory = model.encoder(x).detach().mean()
    loss: Tensor = F.cross_entropy(model.decoder(x).view(-1, V), y.reshape(-1)) + memory.pow(2)
    return loss


Loss = Callable[[Any, int], Tensor]
PROGRAMS: dict[str, tuple[Callable[[], nn.Module], Loss]] = {
    "own loop": (Small, outside),
    "loss inside": (WithLoss, inside),
    "changed in place": (WithLoss, doubled),
    "flattened logits": (Flattened, inside),
    "only the loss": (OnlyLoss, only_loss),
    "labels": (ShiftsItself, labels),
    "shift": (Small, shifted),
    "[T, B]": (TimeFirst, time_first),
    "z-loss": (Small, with_z_loss),
    "parts": (Pair, parts),
}


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def value(loss: Tensor) -> float:
    return float(loss.detach())


@functools.cache
def program(name: str) -> Target:
    """Return the target of a program; each is recorded once."""
    kind, loss = PROGRAMS[name]
    return examined(kind(), loss)


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_of_a_copy_is_that_of_the_script(name: str) -> None:
    target, loss = program(name), PROGRAMS[name][1]
    trial = target.fresh()
    for step in range(UPDATES):
        assert value(trial.loss(target.batch(step))) == pytest.approx(value(loss(trial.model, step)), rel=1e-6)


@pytest.mark.usefixtures("without_trials")
@pytest.mark.parametrize(("loss", "expected"), [(parts, []), (cut_off, ["missing_gradient"])])
def test_part_that_gets_no_gradient_is_found_in_a_loss_of_several_calls(loss: Loss, expected: list[str]) -> None:
    report = examine(examined(Pair(), loss))
    assert [finding.code for finding in report.findings if finding.code == "missing_gradient"] == expected


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "parts"])
def test_tokens_are_those_of_the_script(name: str) -> None:
    target = program(name)
    tokens = required(target.tokens)
    has_row = name in ("labels", "shift")
    for step in range(UPDATES):
        x, y = (rows(step), F.pad(rows(step)[:, 1:], (0, 1), value=-100 if name == "labels" else 0))
        if not has_row:
            x, y = pair(step)
        assert torch.equal(tokens.x(target.batch(step)), x) and torch.equal(target.pair(step)[1], y)
    if name != "only the loss":
        # Checks tell the ids from other arguments of the same shape by identity.
        assert tokens.x(target.probe.batch) is target.probe.x
    with target.evaluating():
        logits = target.logits_of(target.batch(0))
        other = target.logits(target.probe.x.flip(0))
    assert logits.shape == (*tokens.x(target.batch(0)).shape, V) and other.shape[:2] == target.probe.x.shape
    assert target.causal and target.untrained and target.varies


@pytest.mark.parametrize(
    "name",
    ["own loop", "loss inside", "changed in place", "flattened logits", "only the loss", "labels", "shift", "[T, B]"],
)
def test_plain_cross_entropy_can_be_tried_on_fewer_rows(name: str) -> None:
    target = program(name)
    assert not target.fixed_shape and target.probe.x.shape[0] < B
    target.loss(target.probe.batch).backward()  # type: ignore[no-untyped-call]
    output = target.output(target.probe.batch)
    assert target.output_loss is not None
    wanted = value(target.loss(target.probe.batch))
    assert value(target.output_loss(output, target.probe.batch)) == pytest.approx(wanted, rel=1e-6)
    assert value(target.output_loss(target.logits_of(target.probe.batch), target.probe.batch)) == pytest.approx(wanted)


@pytest.mark.parametrize("prompt", [0, 14, 30])
def test_shortened_rows_keep_counted_targets_all_of_which_are_trained(prompt: int) -> None:
    def long_rows(model: nn.Module, step: int) -> Tensor:
        ids = torch.randint(0, V, (B, 40), generator=torch.Generator().manual_seed(step))
        answers_only = ids.clone()
        answers_only[:, :prompt] = -100
        loss: Tensor = model(ids, labels=answers_only).loss
        return loss

    target = examined(ShiftsItself(), long_rows)
    probe = target.probe
    assert probe.x.shape[1] == {0: 16, 14: 32, 30: 40}[prompt]
    with target.evaluating():
        logits = target.logits(probe.x)
        mean = mean_cross_entropy(logits, probe.y, target.ignored)
        assert value(mean) == pytest.approx(value(target.loss(probe.batch)), rel=1e-6)


@pytest.mark.parametrize("length", [T, T + 3])
def test_ids_are_those_that_the_decoder_makes_from_the_labels(length: int) -> None:
    def translated(model: nn.Module, step: int) -> Tensor:
        source = torch.randint(0, V, (B, length), generator=torch.Generator().manual_seed(-1 - step))
        loss: Tensor = model(input_ids=source, labels=pair(step)[1]).loss
        return loss

    target = examined(MakesDecoderIds(), translated)
    x, y = target.pair(0)
    assert torch.equal(y, pair(0)[1]) and torch.equal(x, F.pad(y[:, :-1], (1, 0))) and target.causal
    changed = target.probe.x.clone()
    changed[:, 3] = (changed[:, 3] + 1) % V
    with target.evaluating():
        differs = (target.logits(changed) != target.logits(target.probe.x)).any(dim=2)
    assert bool(differs[:, 3].all()) and not bool(differs[:, :3].any())


def test_other_loss_of_logits_accepts_what_the_model_returned() -> None:
    target = examined(Small(), with_z_loss)
    assert not target.fixed_shape and target.probe.x.shape[0] < B
    output = target.output(target.batch(0))
    assert target.output_loss is not None
    assert value(target.output_loss(output, target.batch(0))) == pytest.approx(value(target.loss(target.batch(0))))


def test_logits_of_the_last_position_show_that_ids_are_time_first() -> None:
    target = examined(TimeFirst(), last_position)
    tokens = required(target.tokens)
    assert torch.equal(tokens.x(target.batch(0)), pair(0)[0])
    assert torch.equal(target.pair(0)[1][:, -1], pair(0)[1][:, -1])


def test_measured_logits_have_the_form_of_the_ids() -> None:
    target = examined(TimeFirst(), time_first)
    measured = measured_loss(target, target.batch(0))
    assert measured.logits.shape == measured.gradient.shape == (B, T, V)
    assert measured.x is not None and torch.equal(measured.x, pair(0)[0])


def test_initial_loss_is_judged_although_the_loss_gets_changed_logits() -> None:
    def twice(model: nn.Module, step: int) -> Tensor:
        x, y = pair(step)
        return F.cross_entropy(model(x).softmax(-1).flatten(0, 1), y.reshape(-1))

    def outcome(scale: float) -> list[tuple[str, str]]:
        model = Small()
        nn.init.normal_(model.h.weight, std=scale)
        return results(initial_loss.check, examined(model, twice))

    assert outcome(0.1) == []
    assert outcome(60.0) == [("finding", "initial_loss")]


def test_loss_of_flattened_logits_by_hand_is_tried_on_whole_batches() -> None:
    target = examined(Flattened(), smoothed_by_hand)
    assert target.fixed_shape
    assert value(target.loss(target.probe.batch)) == pytest.approx(value(smoothed_by_hand(target.model, 0)), rel=1e-6)


def test_model_has_its_initial_weights() -> None:
    torch.manual_seed(3)
    model = Small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    target = examined(model, outside)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.model.state_dict().items())
    assert not any(optimizer.state for optimizer in target.optimizers)


@pytest.mark.parametrize("name", ["own loop", "loss inside", "z-loss"])
def test_division_by_the_number_of_micro_batches_is_undone(name: str) -> None:
    kind, loss = PROGRAMS[name]
    divided = examined(kind(), loss, micro_batches=2, divide=2.0)
    batch = divided.batch(0)
    assert value(divided.loss(batch)) == pytest.approx(value(loss(divided.model, 0)), rel=1e-6)
    undivided = examined(kind(), loss, micro_batches=2)
    assert value(undivided.loss(undivided.batch(0))) == pytest.approx(value(loss(undivided.model, 0)), rel=1e-6)


def test_report_shows_the_losses_of_whole_updates() -> None:
    whole = examined(Small(), outside, micro_batches=2)
    divided = examined(Small(), outside, micro_batches=2, divide=2.0)
    assert shown_first_loss(divided) == pytest.approx(shown_first_loss(whole), rel=0.2)


def share_of_update(model: nn.Module, step: int) -> Tensor:
    """As in transformers: a sum over the targets of a micro-batch over the number of those of two."""
    x, y = pair(step)
    y = y.clone()
    if step % 2:
        y[:, T // 2 :] = -100
        y[:4, 0] = -100
    n_targets = B * T + B * T // 2 - 4
    return F.cross_entropy(model(x).view(-1, V), y.reshape(-1), reduction="sum") / n_targets


def test_report_adds_up_losses_that_are_shares_of_an_update() -> None:
    torch.manual_seed(0)
    whole = examined(Small(), outside)
    torch.manual_seed(0)
    shares = examined(Small(), share_of_update, micro_batches=2)
    assert shown_first_loss(shares) == pytest.approx(shown_first_loss(whole), rel=0.1)


def test_loss_of_a_share_is_the_mean_over_its_own_targets() -> None:
    target = examined(Small(), share_of_update, micro_batches=2)
    for step in range(2):
        batch = target.batch(step)
        shown = target.logits_of(batch)
        mean = F.cross_entropy(shown.view(-1, V), batch["targets"].reshape(-1))
        assert value(target.loss(batch)) == pytest.approx(value(mean), rel=1e-5)
        few = first_rows(batch, 2)
        mean = F.cross_entropy(shown[:2].view(-1, V), few["targets"].reshape(-1))
        assert value(target.loss(few)) == pytest.approx(value(mean), rel=1e-5)


class DividesByGiven(Small):
    """As in transformers: the sum over the counted targets, divided by their number, which the loop counts."""

    def forward(self, x: Tensor, targets: Tensor | None = None, n: Tensor | None = None) -> Any:
        logits = self.logits(x)
        if targets is None:
            return logits, None
        loss = F.cross_entropy(logits.view(-1, V), targets.view(-1), reduction="sum", ignore_index=-100)
        return logits, loss / (targets.numel() if n is None else n)


def answers(step: int) -> tuple[Tensor, Tensor]:
    """Return rows of which about every fourth target is counted, those at the end."""
    x, y = pair(step)
    y = y.clone()
    for row in range(B):
        y[row, : T - 1 - (row + step) % 3] = -100
    return x, y.contiguous()


def divided_by_counted(model: nn.Module, step: int) -> Tensor:
    x, y = answers(step)
    loss: Tensor = model(x, y, (y != -100).sum())[1]
    return loss


def divided_outside(model: nn.Module, step: int) -> Tensor:
    x, y = answers(step)
    return F.cross_entropy(model(x)[0].view(-1, V), y.view(-1), reduction="sum") / (y != -100).sum()


@pytest.mark.usefixtures("without_trials")
@pytest.mark.parametrize("loss", [divided_by_counted, divided_outside])
def test_mean_by_a_counted_divisor_is_a_mean_on_fewer_rows_too(loss: Loss) -> None:
    target = examined(DividesByGiven(), loss)
    whole = target.batch(0)
    assert value(target.loss(whole)) == pytest.approx(value(loss(target.model, 0)), rel=1e-6)
    few = first_rows(whole, 2)
    assert measured_loss(target, few).total_weight == pytest.approx(1, rel=1e-3)
    assert "wrong_divisor" not in [finding.code for finding in examine(target).findings]


def divided_by_all(model: nn.Module, step: int) -> Tensor:
    x, y = answers(step)
    loss: Tensor = model(x, y, torch.tensor(y.numel()))[1]
    return loss


@pytest.mark.usefixtures("without_trials")
def test_sum_over_counted_targets_divided_by_all_positions_is_a_finding() -> None:
    report = examine(examined(DividesByGiven(), divided_by_all))
    assert "wrong_divisor" in [finding.code for finding in report.findings]


def shown_first_loss(target: Target) -> float:
    """Return the loss of the first updates in "loss 2.6 → 2.5"."""
    return next(float(text.split()[1]) for text in target.recognized if text.startswith("loss "))


def test_update_learns_and_clips_as_the_script_does() -> None:
    target = examined(Small(), outside).fresh()
    before = value(target.loss(target.batch(0)))
    for _ in range(20):
        target.apply_update(target.batch(0))
    assert value(target.loss(target.batch(0))) < before
    gradients = [p.grad for p in target.model.parameters() if p.grad is not None]
    assert float(torch.nn.utils.get_total_norm(gradients)) <= 0.5 + 1e-4


def test_update_of_lbfgs_is_that_of_the_script() -> None:
    model = Small()
    capture = Capture(lambda: recorder.created_optimizers)
    with LoopRecorder(capture=capture) as recorder:
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=4)

        def closure() -> float:
            optimizer.zero_grad()
            loss = outside(model, 0)
            loss.backward()  # type: ignore[no-untyped-call]
            return value(loss)

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        after_first = [p.detach().clone() for p in model.parameters()]
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    capture.close()
    target = target_from_script(capture, recorder.record(), model, [optimizer], trained=False)
    trial = target.fresh()
    trial.apply_update(target.batch(0))
    torch.testing.assert_close(list(trial.model.parameters()), after_first, check_device=False)


def test_rate_is_the_largest_of_the_schedule() -> None:
    def warmup(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))

    target = examined(Small(), outside, schedule=warmup)
    assert target.optimizers[0].param_groups[0]["lr"] == pytest.approx(LR)
    by_hand = examined(Small(), outside, set_lr=lambda step: LR * (step + 1) / 100)
    assert by_hand.optimizers[0].param_groups[0]["lr"] == pytest.approx(LR)
    constant = examined(Small(), outside, set_lr=lambda step: LR / 100)
    assert constant.optimizers[0].param_groups[0]["lr"] == pytest.approx(LR / 100)


def test_several_calls_for_one_loss_have_a_loss_and_no_output() -> None:
    target = examined(Pair(), parts)
    assert target.tokens is None
    with pytest.raises(NotJudged):
        target.output(target.batch(0))


def test_classifier_has_no_tokens() -> None:
    class Classifier(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.logits(x)[:, 0]

    def loss(model: nn.Module, step: int) -> Tensor:
        return F.cross_entropy(model(pair(step)[0]), pair(step)[1][:, 0])

    target = examined(Classifier(), loss)
    assert target.tokens is None
    assert value(target.loss(target.batch(1))) == pytest.approx(value(loss(target.model, 1)))


def test_loss_of_a_tuple_accepts_logits_alone() -> None:
    class Tuple(Small):
        def forward(self, x: Tensor) -> Any:
            logits = self.logits(x)
            return x, logits

    def loss(model: nn.Module, step: int) -> Tensor:
        x, y = pair(step)
        logits: Tensor = model(x)[1]
        return F.cross_entropy(logits.transpose(1, 2), y) + 1e-3 * logits.pow(2).mean()

    target = examined(Tuple(), loss)
    batch = target.batch(0)
    assert target.output_loss is not None
    assert value(target.output_loss(target.logits_of(batch), batch)) == pytest.approx(value(loss(target.model, 0)))


def test_no_check_begins_after_the_deadline() -> None:
    target = examined(Small(), outside)
    report = examine(target, deadline=0.0)
    assert report.passed == () and report.findings == () and len(report.not_judged) > 10
    assert {unchecked.reason for unchecked in report.not_judged} == {NO_TIME}


def test_trials_share_no_copies_of_the_batches() -> None:
    target = examined(Small(), outside)
    state = UpdateState([target.update])
    before = target.batch(0)["args"][0].clone()
    target.batch(0)["args"][0].zero_()
    state.restore()
    assert not torch.equal(target.batch(0)["args"][0], before)


class KeepsState(Small):
    """Goes on from the state that the batch before has left."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | None = None

    def logits(self, x: Tensor) -> Tensor:
        outputs, state = self.r(self.e(x), self.state)
        self.state = state.detach()
        logits: Tensor = self.h(outputs)
        return logits


def test_no_trial_begins_with_the_state_of_another_batch() -> None:
    model = KeepsState()
    target = examined(model, outside)
    batch = target.batch(0)
    target.loss(target.batch(1))
    assert value(target.loss(batch)) == value(target.loss(batch))
    fewer = target.probe.batch
    assert target.logits_of(fewer).shape[0] == 3


def test_weights_in_half_precision_are_those_of_now() -> None:
    def loss(model: nn.Module, step: int) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return outside(model, step)

    target = examined(Small(), loss)
    with torch.autocast("cpu", enabled=False):
        trial = target.fresh()
        before = value(trial.loss(trial.batch(0)))
        for _ in range(20):
            trial.apply_update(trial.batch(0))
        assert value(trial.loss(trial.batch(0))) < 0.9 * before


class Regressor(nn.Module):
    """Two numbers for each row of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


labels_of_all = torch.arange(100) % 2


def indexed(model: nn.Module, step: int) -> Tensor:
    rows = torch.arange(B) + step
    return F.cross_entropy(model(torch.randn(B, 3)), labels_of_all[rows])


def squared(model: nn.Module, step: int) -> Tensor:
    x = torch.randn(B, 3)
    loss: Tensor = (model(x) - x[:, :2]).pow(2).sum()
    return loss


def weighted(model: nn.Module, step: int) -> Tensor:
    weights = torch.arange(1.0, B + 1)
    losses = F.mse_loss(model(torch.randn(B, 3)), torch.ones(B, 2), reduction="none").mean(1)
    return (losses * weights).sum() / weights.sum()


def between_rows(model: nn.Module, step: int) -> Tensor:
    z: Tensor = model(torch.randn(B, 3))
    return F.cross_entropy(z @ z.T, torch.arange(B)) + (z[0] - z[B - 1]).pow(2).sum() * 10


@pytest.mark.parametrize(
    ("loss", "splits"),
    [(indexed, True), (squared, True), (weighted, True), (between_rows, False)],
    ids=["indexed", "squared", "weighted", "between rows"],
)
def test_loss_of_rows_is_tried_on_some_of_them(loss: Loss, splits: bool) -> None:
    target = examined(Regressor(), loss)
    assert target.fixed_shape == (not splits) and target.tokens is None
    few = target.probe.batch
    assert len(few["args"][0]) == (3 if splits else B)
    assert value(target.loss(few)) > 0
    assert target.output_loss is not None
    assert value(target.output_loss(target.output(few), few)) == pytest.approx(value(target.loss(few)), rel=1e-6)


data = torch.randn(100, 3)
sums_of_all = data.sum(1)


def broadcast(model: nn.Module, step: int) -> Tensor:
    rows = torch.arange(B) + step
    return F.mse_loss(model(data[rows])[:, :1], sums_of_all[rows])


def same_shape(model: nn.Module, step: int) -> Tensor:
    rows = torch.arange(B) + step
    return F.mse_loss(model(data[rows])[:, 0], sums_of_all[rows])


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_targets_that_the_loop_picks_from_all_data_are_compared() -> None:
    (finding,) = score_loss.check(examined(Regressor(), broadcast))
    assert finding.code == "output_broadcast"
    assert "test_target.py:" in finding.location
    with pytest.raises(NotJudged):
        list(score_loss.check(examined(Regressor(), same_shape)))


def test_losses_of_the_loop_are_shown() -> None:
    updates, losses = examined(Regressor(), same_shape).recognized
    assert updates == f"{UPDATES} updates of the script"
    assert losses.startswith("loss ")


def test_weights_of_one_of_several_losses_are_not_judged_by_another() -> None:
    generator, critic = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
    capture = Capture(lambda: recorder.created_optimizers)
    with LoopRecorder(capture=capture) as recorder:
        optimizers = [torch.optim.Adam(module.parameters(), lr=LR) for module in (critic, generator)]
        for _ in range(UPDATES):
            made = generator(torch.randn(B, 4))
            for optimizer, output in zip(optimizers, (made.detach(), made), strict=True):
                optimizer.zero_grad()
                if output is made:
                    F.softplus(-critic(output)).mean().backward()  # type: ignore[no-untyped-call]
                else:
                    F.softplus(critic(output)).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    capture.close()
    models = whole_model(capture, recorder.model)
    target = target_from_script(capture, recorder.record(), models, recorder.optimizers, trained=False)
    assert any(words.startswith("2 models") for words in target.recognized)
    assert not list(gradients.check(target))  # The loop gave both a gradient, the loss that is tried only one.


def ids_of(step: int, length: int) -> Tensor:
    return torch.randint(V, (B, length), generator=torch.Generator().manual_seed(step))


class TwoHeads(Small):
    """Logits of a second token ahead, and of the next one; `order` of the output: 1 for the next one first."""

    def __init__(self, order: int) -> None:
        super().__init__()
        self.second = nn.Linear(8, V)
        self.order = order

    def forward(self, x: Tensor) -> Any:
        states = self.r(self.e(x))[0]
        return (self.h(states), self.second(states))[:: self.order]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("faulty", [False, True])
def test_head_of_the_next_token_is_examined_among_several(order: int, *, faulty: bool) -> None:
    def loss(model: nn.Module, step: int) -> Tensor:
        rows = ids_of(step, T + 2)
        following, second = model(rows[:, :T])[::order]
        of_following = F.cross_entropy(following.reshape(-1, V), rows[:, : T if faulty else T + 1][:, -T:].reshape(-1))
        return of_following + 0.3 * F.cross_entropy(second.reshape(-1, V), rows[:, 2:].reshape(-1))

    target = examined(TwoHeads(order), loss)
    assert target.causal or faulty
    assert results(targets.check, target) == ([("finding", "copied_targets")] if faulty else [])


def test_cross_entropy_beside_another_loss_shows_its_targets() -> None:
    def loss(model: nn.Module, step: int) -> Tensor:
        rows = ids_of(step, T + 1)
        logits = model(rows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()) + 0.1 * F.mse_loss(logits, logits * 0)

    target = examined(Small(), loss)
    assert target.causal and required(target.tokens).y is not None


class Auxiliary(Small):
    """Has a second head that it returns in training only; `random` draws numbers in training, too."""

    def __init__(self, *, random: bool) -> None:
        super().__init__()
        self.second = nn.Linear(8, V)
        self.random = random

    def forward(self, x: Tensor) -> Any:
        states = self.r(self.e(x))[0]
        if not self.training:
            return self.h(states)
        return self.h(F.dropout(states, 0.1) if self.random else states), self.second(states)


@pytest.mark.parametrize("random", [False, True])
def test_heads_that_are_returned_in_training_only(*, random: bool) -> None:
    def loss(model: nn.Module, step: int) -> Tensor:
        x, y = pair(step)
        return torch.stack([F.cross_entropy(each.flatten(0, 1), y.flatten()) for each in model(x)]).sum()

    target = examined(Auxiliary(random=random), loss)
    report = examine(target)
    assert not report.findings and not report.crashed
    assert ("overfit" in report.passed) is not random
    assert target.keeps_training_flag is not random


def test_model_that_returns_more_in_evaluation_is_called_in_evaluation_mode() -> None:
    class WithCache(Small):
        def forward(self, x: Tensor) -> Any:
            logits = self.logits(x)
            return (logits,) if self.training else (logits, x)

    def loss(model: nn.Module, step: int) -> Tensor:
        x, y = pair(step)
        return F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())

    target = examined(WithCache(), loss)
    assert not target.keeps_training_flag and isinstance(measured_loss(target, target.batch(0)).value, float)
