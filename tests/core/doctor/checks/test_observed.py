"""What a recorded loop shows beside its order: each mistake is named, and its healthy twin passes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.core.doctor.checks.programs import Causal, results, scores_target
from tui_lab.core.doctor.checks.data import stored_data
from tui_lab.core.doctor.checks.loss import criterion_inputs
from tui_lab.core.doctor.checks.model import padded_rows
from tui_lab.core.doctor.checks.training import averaged_buffers, carried_state, lost_updates, schedules, self_average
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.program.target import Target

FOUND = "finding"
HINT = "hint"


def judged(check: Callable[[Target], Any], loop: Callable[[], object]) -> list[tuple[str, str]]:
    """Record a loop, and return what a check says of it."""
    with LoopRecorder() as recorder:
        loop()
    record = recorder.record()
    assert record.notes == ()
    target = scores_target(nn.Linear(2, 2), lambda step: (torch.ones(2, 2), torch.zeros(2).long()), F.cross_entropy)
    return results(check, replace(target, record=record))


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[nn.Module, int], Tensor],
    updates: int = 12,
    after: Callable[[], object] = lambda: None,
) -> None:
    for step in range(updates):
        optimizer.zero_grad()
        loss(model, step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        after()


def token_loss(model: nn.Module, step: int) -> Tensor:
    x = torch.randint(23, (4, 16), generator=torch.Generator().manual_seed(step))
    logits = model(x[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())


# Rounding


class Stochastic(torch.optim.SGD):
    """Rounds bfloat16 weights up or down at random, in proportion."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                new = p.float() - group["lr"] * p.grad.float().sign()
                if p.dtype == torch.bfloat16:
                    bits = new.view(torch.int32) + torch.randint(0, 2**16, new.shape, dtype=torch.int32)
                    new = (bits & -65536).view(torch.float32)
                p.copy_(new)


class WithMaster(torch.optim.SGD):
    """Keeps the weights in float32 in its state."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                master = self.state[p].setdefault("master", p.detach().float().clone())
                master -= group["lr"] * p.grad.float().sign()
                p.copy_(master)


class WithRest(torch.optim.SGD):
    """Keeps what is rounded away for the next step."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                rest = self.state[p].setdefault("rest", torch.zeros_like(p))
                new = p.float() + rest.float() - group["lr"] * p.grad.float().sign()
                p.copy_(new)
                rest.copy_(new - p.float())


@pytest.mark.parametrize(
    ("dtype", "optimizer", "lr", "expected"),
    [
        (torch.bfloat16, torch.optim.AdamW, 1e-4, [(FOUND, "updates_lost")]),
        (torch.float16, torch.optim.SGD, 1e-3, [(FOUND, "updates_lost")]),
        (torch.bfloat16, torch.optim.AdamW, 1e-2, []),
        (torch.bfloat16, Stochastic, 1e-4, []),
        (torch.bfloat16, WithMaster, 1e-4, [("not applicable", "")]),
        (torch.bfloat16, WithRest, 1e-4, [("not applicable", "")]),
        (torch.float32, torch.optim.AdamW, 1e-4, [("not applicable", "")]),
    ],
)
def test_updates_that_rounding_loses_are_found(
    dtype: torch.dtype, optimizer: Any, lr: float, expected: list[tuple[str, str]]
) -> None:
    model = Causal().to(dtype)
    outcome = judged(lost_updates.check, lambda: train(model, optimizer(model.parameters(), lr=lr), token_loss))
    assert outcome == expected


def test_copies_in_float32_that_the_loop_keeps_lose_no_update() -> None:
    model = Causal().to(torch.bfloat16)
    masters = [nn.Parameter(p.detach().float()) for p in model.parameters()]
    optimizer = torch.optim.AdamW(masters, lr=1e-4)

    def loop() -> None:
        for step in range(6):
            model.zero_grad()
            token_loss(model, step).backward()  # type: ignore[no-untyped-call]
            for master, p in zip(masters, model.parameters(), strict=True):
                assert p.grad is not None
                master.grad = p.grad.float()
            optimizer.step()
            with torch.no_grad():
                for master, p in zip(masters, model.parameters(), strict=True):
                    p.copy_(master)

    assert judged(lost_updates.check, loop) == [("not applicable", "")]


# Criteria


def classes_loop(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
    torch.manual_seed(0)
    model = nn.Linear(6, 5)
    y = torch.arange(8) % 5
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    return lambda: train(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda m, step: loss(m(x), y), 3)


SOFT = torch.full((8, 5), 0.2)
SEVERAL = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]).repeat(8, 1)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("loss", "code"),
    [
        (lambda z, y: F.kl_div(z.softmax(1), SOFT, reduction="batchmean"), "missing_log_softmax"),
        (lambda z, y: F.kl_div(z, SOFT, reduction="batchmean"), "missing_log_softmax"),
        (lambda z, y: nn.KLDivLoss(reduction="batchmean", log_target=True)(z, SOFT.log()), "missing_log_softmax"),
        (lambda z, y: F.nll_loss(z.softmax(1), y), "missing_log_softmax"),
        (lambda z, y: F.nll_loss(3 * z, y), "missing_log_softmax"),
        (lambda z, y: F.cross_entropy(z.softmax(1), y), "double_softmax"),
        (lambda z, y: F.binary_cross_entropy_with_logits(z.sigmoid()[:, 0], (y > 2).float()), "double_sigmoid"),
        (lambda z, y: F.smooth_l1_loss(z[:, :1], z.detach()[:, 1]), "output_broadcast"),
        (lambda z, y: F.huber_loss(z[:, 0], z.detach()[:, 1:2]), "output_broadcast"),
        (lambda z, y: F.binary_cross_entropy(z[:, :1].softmax(1)[:, 0], (y > 2).float()), "softmax_of_one"),
        (lambda z, y: F.binary_cross_entropy(z.softmax(1), SEVERAL), "exclusive_labels"),
        (lambda z, y: F.binary_cross_entropy(z.softmax(1), F.one_hot(y, 5).float()), ""),
        (lambda z, y: F.binary_cross_entropy_with_logits(z, SEVERAL), ""),
        (lambda z, y: F.cross_entropy(z, SEVERAL / SEVERAL.sum(1, keepdim=True)), ""),
        (lambda z, y: F.binary_cross_entropy(z[:, 0].clamp(0, 1), (y > 2).float()), "missing_sigmoid"),
        (lambda z, y: F.binary_cross_entropy(z[:, 0].sigmoid().clamp(0.1, 0.9), (y > 2).float()), ""),
        (lambda z, y: F.binary_cross_entropy((-z[:, 0].square()).exp(), (y > 2).float()), ""),
        (lambda z, y: F.l1_loss(z[:, :1], z.detach()[:, 1:2]), ""),
        (lambda z, y: F.mse_loss(z, z.detach()[:1]), ""),
        (lambda z, y: F.kl_div(z.log_softmax(1), SOFT, reduction="batchmean"), ""),
        (lambda z, y: F.kl_div(z.log_softmax(1).bfloat16(), SOFT.bfloat16(), reduction="batchmean"), ""),
        (lambda z, y: F.kl_div(z.log_softmax(1), SOFT.log(), reduction="batchmean", log_target=True), ""),
        (lambda z, y: F.nll_loss(z.log_softmax(1), y), ""),
        (lambda z, y: F.cross_entropy(z, y), ""),
        (lambda z, y: F.cross_entropy(z, SOFT), ""),
        (lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], (y > 2).float()), ""),
    ],
)
def test_criteria_that_get_something_else_than_they_expect_are_found(
    loss: Callable[[Tensor, Tensor], Tensor], code: str
) -> None:
    assert judged(criterion_inputs.check, classes_loop(loss)) == ([(FOUND, code)] if code else [])


def test_one_of_several_losses_in_a_line_is_found() -> None:
    found = judged(criterion_inputs.check, classes_loop(lambda z, y: F.cross_entropy(z, y) + F.nll_loss(z * 2, y)))
    assert found == [(FOUND, "missing_log_softmax")]
    both = classes_loop(lambda z, y: F.cross_entropy(z, y) + 0.4 * F.cross_entropy(z.softmax(1), y))
    assert judged(criterion_inputs.check, both) == [(FOUND, "double_softmax")]


def test_several_labels_of_a_row_in_cross_entropy_are_a_hint() -> None:
    found = judged(criterion_inputs.check, classes_loop(lambda z, y: F.cross_entropy(z, SEVERAL)))
    assert found == [(HINT, "exclusive_labels")]


@pytest.mark.parametrize(
    ("moved", "code"),
    [
        (lambda z: z.reshape(4, 5, 3), "scrambled_logits"),
        (lambda z: z.view(4, 5, 3), "scrambled_logits"),
        (lambda z: z.transpose(1, 2), ""),
        (lambda z: z.transpose(1, 2).contiguous().view(4, 5, 3), ""),
        (lambda z: z.movedim(-1, 1), ""),
    ],
)
def test_classes_that_a_reshape_does_not_move_are_found(moved: Callable[[Tensor], Tensor], code: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 5)
    x = torch.randn(4, 3, 6)
    y = torch.arange(12).reshape(4, 3) % 5

    def loop() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, lambda m, step: F.cross_entropy(moved(m(x)), y), 3)

    assert judged(criterion_inputs.check, loop) == ([(FOUND, code)] if code else [])


# Averages


def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def averaging_loop(*, buffers: bool, evaluates: bool = True, decay: float = 0.9) -> Callable[[], None]:
    model = normed()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    x = 3 + torch.randn(16, 6)

    @torch.no_grad()
    def after() -> None:
        for a, b in zip(average.parameters(), model.parameters(), strict=True):
            a.lerp_(b, 1 - decay)
        for mine, own in zip(average.buffers(), model.buffers(), strict=True):
            if buffers:
                mine.copy_(own)
        if evaluates:
            average(x)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return lambda: train(model, optimizer, lambda m, step: m(x).pow(2).mean(), 20, after)


def test_buffers_of_an_average_that_never_change_are_found() -> None:
    assert judged(averaged_buffers.check, averaging_loop(buffers=False)) == [(FOUND, "stale_buffers")]


def test_average_that_is_not_evaluated_yet_is_a_hint() -> None:
    assert judged(averaged_buffers.check, averaging_loop(buffers=False, evaluates=False)) == [(HINT, "stale_buffers")]


def test_average_with_copied_buffers_passes() -> None:
    assert judged(averaged_buffers.check, averaging_loop(buffers=True)) == []


def test_frozen_teacher_is_no_average() -> None:
    assert judged(averaged_buffers.check, averaging_loop(buffers=False, decay=1.0)) == [("not applicable", "")]


AVERAGES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "lerp": lambda a, b: a.lerp_(b, 0.001),
    "mul and add with alpha": lambda a, b: a.data.mul_(0.999).add_(b.data, alpha=0.001),
    "mul and add of a product": lambda a, b: a.mul_(0.999).add_((1.0 - 0.999) * b.detach()),
}


def ema_loop(average: Callable[[Tensor, Tensor], object], *, copies: bool) -> Callable[[], None]:
    model = normed()
    ema = copy.deepcopy(model) if copies else model

    @torch.no_grad()
    def after() -> None:
        for a, b in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
            if a.is_floating_point():
                average(a, b)

    x = 3 + torch.randn(16, 6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return lambda: train(model, optimizer, lambda m, step: m(x).pow(2).mean(), 5, after)


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_average_that_is_the_model_itself_is_found(average: Callable[[Tensor, Tensor], object]) -> None:
    assert judged(self_average.check, ema_loop(average, copies=False)) == [(FOUND, "average_of_itself")]


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_average_that_is_a_copy_passes(average: Callable[[Tensor, Tensor], object]) -> None:
    assert judged(self_average.check, ema_loop(average, copies=True)) == [("not applicable", "")]


def test_weight_decay_by_hand_is_no_average() -> None:
    model = normed()
    x = torch.randn(16, 6)

    @torch.no_grad()
    def after() -> None:
        for p in model.parameters():
            p.add_(p, alpha=-0.001)
            p.mul_(0.999)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loop = lambda: train(model, optimizer, lambda m, step: m(x).pow(2).mean(), 5, after)  # noqa: E731
    assert judged(self_average.check, loop) == [("not applicable", "")]


def test_compiled_code_finds_the_methods_of_torch() -> None:
    def halved(x: Tensor) -> Tensor:
        return x.mul_(0.5).add_(x, alpha=0.0)

    with LoopRecorder():
        compiled = torch.compile(halved, backend="eager", fullgraph=True)
        assert torch.equal(compiled(torch.ones(3)), torch.full((3,), 0.5))
        assert not {"lerp_", "mul_", "add_"} & vars(Tensor).keys()


# States


class Recurrent(nn.Module):
    """Classifies rows, or predicts the next id; keeps its state if `carries`."""

    def __init__(self, n_out: int, *, carries: bool, each: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, n_out)
        self.carries, self.each = carries, each
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = self.gru(self.embedding(x), self.state)
        self.state = state.detach().clone() if self.carries else None
        logits: Tensor = self.head(outputs if self.each else outputs[:, -1])
        return logits


def loader_loop(*, carries: bool, shuffle: bool) -> Callable[[], None]:
    x = torch.randint(9, (64, 7))
    loader = DataLoader(TensorDataset(x, x.sum(1) % 3), 8, shuffle=shuffle)
    model = Recurrent(3, carries=carries)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop() -> None:
        for rows, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(rows), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return loop


def stream_loop(*, contiguous: bool) -> Callable[[], None]:
    stream = torch.randint(9, (8, 85))
    model = Recurrent(9, carries=True, each=True)
    starts = range(0, 84, 7) if contiguous else torch.randperm(77)[:12].tolist()

    def loss(model: nn.Module, step: int) -> Tensor:
        part = stream[:, starts[step] : starts[step] + 8]
        return F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten())

    return lambda: train(model, torch.optim.SGD(model.parameters(), lr=0.1), loss)


def policy_loop() -> None:
    """As recurrent PPO: acts step by step, and trains all steps from the state that the policy had before them."""
    gru, head = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 2)
    optimizer = torch.optim.SGD([*gru.parameters(), *head.parameters()], lr=0.1)
    state = torch.zeros(1, 1, 8)
    for _ in range(6):
        first, steps = state, torch.randn(1, 5, 4)
        for t in range(5):
            state = gru(steps[:, t : t + 1], state)[1].detach()
        for _ in range(3):
            optimizer.zero_grad()
            head(gru(steps, first)[0]).square().mean().backward()
            optimizer.step()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: policy_loop, [("not applicable", "")]),
        (lambda: loader_loop(carries=True, shuffle=True), [(FOUND, "state_carried")]),
        (lambda: loader_loop(carries=True, shuffle=False), [(HINT, "state_carried")]),
        (lambda: loader_loop(carries=False, shuffle=True), [("not applicable", "")]),
        (lambda: stream_loop(contiguous=True), []),
        (lambda: stream_loop(contiguous=False), [(FOUND, "state_carried")]),
    ],
)
def test_states_that_are_carried_to_unrelated_rows_are_found(
    make: Callable[[], Callable[[], None]], expected: list[tuple[str, str]]
) -> None:
    assert judged(carried_state.check, make()) == expected


# Stored data


class Images(Dataset[tuple[Tensor, int]]):
    """Changes each item as `change` does."""

    def __init__(self, change: Callable[[Any], Any], *, arrays: bool = True) -> None:
        images = np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32)
        self.images: Any = images if arrays else list(torch.from_numpy(images))
        self.change = change
        self.reads = np.zeros(12, dtype=np.int64)
        self.cache: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads[index] += 1
        image = self.change(self.images[index])
        self.cache.setdefault(index, torch.as_tensor(image))
        return torch.as_tensor(image), index % 3


def erase(image: Any) -> Any:
    start = int(torch.randint(0, 5, ()))
    image[start : start + 2] = float(torch.rand(()))
    return image


def normalize(image: Tensor) -> Tensor:
    return image.sub_(1.0)


def reading_loop(dataset: Any, n_workers: int = 0) -> Callable[[], None]:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop() -> None:
        for x, y in DataLoader(dataset, 4, shuffle=True, num_workers=n_workers):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return loop


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Images(erase), [(FOUND, "data_changed")]),
        (lambda: Images(normalize, arrays=False), [(FOUND, "data_changed")]),
        (lambda: torch.utils.data.Subset(Images(erase), range(8)), [(FOUND, "data_changed")]),
        (lambda: Images(lambda image: erase(image.copy())), []),
        (lambda: Images(lambda image: image), []),
        (lambda: Images(lambda image: image - 1.0, arrays=False), []),
        (lambda: TensorDataset(torch.randn(12, 6), torch.arange(12) % 3), []),
    ],
)
def test_data_sets_that_change_when_they_are_read_are_found(
    make: Callable[[], Any], expected: list[tuple[str, str]]
) -> None:
    assert judged(stored_data.check, reading_loop(make())) == expected


# Padding


class Classifier(nn.Module):
    """A GRU over padded rows. pool: which of its outputs counts."""

    def __init__(self, pool: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(30, 12, padding_idx=0)
        self.gru = nn.GRU(12, 12, batch_first=True)
        self.head = nn.Linear(12, 2)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.gru(self.embedding(x))[0], x != 0))
        return logits


def padded_batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    lengths = torch.randint(4, 14, (12,), generator=generator)
    x = torch.randint(1, 30, (12, 20), generator=generator)
    return x * (torch.arange(20) < lengths[:, None]), lengths % 2


def at_last_token(states: Tensor, mask: Tensor) -> Tensor:
    return states[torch.arange(len(states)), mask.sum(1) - 1]


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (lambda states, mask: states[:, -1], [(FOUND, "padding_attended")]),
        (lambda states, mask: states.mean(1), [(FOUND, "padding_attended")]),
        (at_last_token, []),
        (mean_of_tokens, []),
    ],
)
def test_outputs_that_depend_on_the_padding_are_found(
    pool: Callable[[Tensor, Tensor], Tensor], expected: list[tuple[str, str]]
) -> None:
    target = scores_target(Classifier(pool), padded_batch, F.cross_entropy)
    assert results(padded_rows.check, target) == expected


def test_rows_without_padding_are_not_judged_for_it() -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        return torch.randint(1, 30, (12, 20)), torch.arange(12) % 2

    target = scores_target(Classifier(at_last_token), batch, F.cross_entropy)
    assert results(padded_rows.check, target) == [("not applicable", "")]


# Schedules


def scheduled(lr: float, factor: Callable[[int], float], per_epoch: int = 1, epochs: int = 24) -> LoopRecord:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    with LoopRecorder() as recorder:
        for _ in range(epochs):
            train(model, optimizer, lambda m, step: m(torch.ones(4, 6)).pow(2).mean(), per_epoch)
            scheduler.step()
    return recorder.record()


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (lambda: scheduled(2e-3, lambda step: 2e-3 * min(1, (step + 1) / 5)), [FOUND]),
        (lambda: scheduled(1.0, lambda step: 2e-3 * min(1, (step + 1) / 5)), []),
        (lambda: scheduled(2e-3, lambda step: min(1, (step + 1) / 5)), []),
        (lambda: scheduled(2e-3, lambda step: min(1, step / 20), per_epoch=12, epochs=2), [FOUND]),
        (lambda: scheduled(2e-3, lambda step: min(1, (step + 1) / 200), per_epoch=12, epochs=2), [FOUND]),
        (lambda: scheduled(2e-3, lambda step: min(1, (step + 1) / 20), per_epoch=12, epochs=2), [HINT]),
        (lambda: scheduled(2e-3, lambda step: max(0.0, 1 - step / 96), per_epoch=12, epochs=2), []),
        (lambda: scheduled(2e-3, lambda step: min(1, (step + 1) / 20)), []),
    ],
)
def test_schedules_that_count_something_else_than_the_loop_are_found(
    make: Callable[[], LoopRecord], kinds: Sequence[str]
) -> None:
    findings = list(schedules.check_schedules(make()))
    assert [finding.kind for finding in findings] == list(kinds)
    assert all(finding.code == "lr_schedule" for finding in findings)


def test_warm_up_that_never_advances_is_found_unless_another_scheduler_steps_it() -> None:
    def record(*, in_sequence: bool) -> LoopRecord:
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with LoopRecorder() as recorder:
            warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 100))
            later = torch.optim.lr_scheduler.ConstantLR(optimizer)
            both = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, later], [50]) if in_sequence else None
            train(
                model,
                optimizer,
                lambda m, step: m(torch.ones(4, 6)).pow(2).mean(),
                after=lambda: both.step() if both is not None else None,
            )
        return recorder.record()

    assert [f.kind for f in schedules.check_schedules(record(in_sequence=False))] == [FOUND]
    assert list(schedules.check_schedules(record(in_sequence=True))) == []


def test_milestones_of_epochs_that_pass_within_the_first_epoch_are_found() -> None:
    def record(*, per_update: bool) -> LoopRecord:
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 6])
        with LoopRecorder() as recorder:
            for x, y in DataLoader(TensorDataset(torch.randn(48, 6), torch.arange(48) % 3), 4, shuffle=True):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                if per_update:
                    scheduler.step()
        return recorder.record()

    assert [f.kind for f in schedules.check_schedules(record(per_update=True))] == [FOUND]
    assert list(schedules.check_schedules(record(per_update=False))) == []
