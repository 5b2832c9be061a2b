"""The account of a script's steps: exact bytes of small models, and what grows from step to step."""

import gc
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tui_lab.core.training.optim_without_dynamo import SGD
from tui_lab.core.watch.memory import memory_recorder
from tui_lab.core.watch.memory.memory_recorder import MemoryRecorder
from tui_lab.core.watch.memory.most_at_once import NoMeter
from tui_lab.core.watch.memory.step_memory import StepMemory

FLOAT = 4
ROWS = 8
N_STEPS = 6


class Steps:
    """The accounts of the steps that a test makes."""

    def __init__(self) -> None:
        self.steps: list[StepMemory] = []
        self.recorder = MemoryRecorder(self.steps.append)

    @property
    def last(self) -> StepMemory:
        assert self.recorder.errors == []
        return self.steps[-1]


@pytest.fixture(autouse=True)
def without_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the peak: torch's profiler takes seconds. Tests of whole scripts measure it."""
    monkeypatch.setattr(memory_recorder, "meter_of", lambda device: NoMeter())


@pytest.fixture
def steps() -> Iterator[Steps]:
    followed = Steps()
    gc.freeze()  # Only tensors of this test are looked at.
    followed.recorder.install()
    yield followed
    followed.recorder.finish()
    gc.unfreeze()


class Net(nn.Module):
    """[B, 16] → [B, 10]; its inner layer keeps its input and the output of ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(16, 32)
        self.head = nn.Linear(32, 10)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.up(x).relu())
        return logits


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, 16), torch.randint(10, (ROWS,))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, micro_batches: int = 1) -> None:
    for _ in range(N_STEPS):
        for _ in range(micro_batches):
            x, y = batch()
            torch.autograd.backward(F.cross_entropy(model(x), y))
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_parts_are_exact(micro_batches: int, steps: Steps) -> None:
    model = Net()
    train(model, SGD(model.parameters(), lr=0.1, momentum=0.9), micro_batches)
    step = steps.last
    weights = FLOAT * sum(p.numel() for p in model.parameters())
    assert (step.weights, step.gradients, step.optimizer) == (weights, weights, weights)
    assert step.buffers == 3 * FLOAT and step.frozen == 0
    assert step.optimizers == ("SGD",) and step.micro_batches == micro_batches
    assert step.rows == ROWS and step.batch == ROWS * (16 * FLOAT + 8)
    assert step.kept is not None
    assert step.kept.activations == ROWS * 32 * FLOAT  # The output of ReLU, which two operations keep.
    # The logarithms of the probabilities, and the sum of the targets' weights. Nothing holds the logits.
    assert step.kept.loss == ROWS * 10 * FLOAT + FLOAT
    assert step.kept.per_row == (step.kept.activations + step.kept.loss) / ROWS
    assert [(part.name, part.kind) for part in step.kept.parts] == [("", "Net")]
    assert step.logits is not None and step.logits.shape == (ROWS, 10)


class NotingMeter(NoMeter):
    """Records the calls that it gets during a step."""

    def __init__(self) -> None:
        self.told: list[Collection[int] | str] = []

    def fixed(self, addresses: Collection[int]) -> None:
        self.told.append(set(addresses))

    def update_begins(self) -> None:
        self.told.append("begins")

    def update_ended(self) -> None:
        self.told.append("ended")


def test_meter_is_told_where_gradients_are(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = NotingMeter()
    monkeypatch.setattr(memory_recorder, "meter_of", lambda device: meter)
    model = Net()
    train(model, SGD(model.parameters(), lr=0.1))
    x, y = batch()
    meter.told.clear()
    torch.autograd.backward(F.cross_entropy(model(x), y))
    gradients = {p.grad.untyped_storage().data_ptr() for p in model.parameters() if p.grad is not None}
    assert len(gradients) == 4 and meter.told == [set(), gradients]
    meter.told.clear()
    SGD(model.parameters(), lr=0.1).step()
    assert meter.told == ["begins", "ended"]


def test_gradients_that_are_set_to_0_are_told_from_freed_ones(steps: Steps) -> None:
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    for set_to_none in (False, True):
        for _ in range(3):
            x, y = batch()
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad(set_to_none=set_to_none)
            torch.autograd.backward(loss)
            optimizer.step()
    # Where a step ends is not known before the second one.
    assert [step.early_fate for step in steps.steps[2:]] == ["zeroed", "freed", "freed", "freed"]
    assert all(step.early_gradients == step.weights for step in steps.steps[2:])


class Metrics:
    """What a script collects."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []


def keep_losses(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    metrics = Metrics()
    for _ in range(N_STEPS):
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        metrics.losses.append(loss)


def add_losses(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    total = torch.zeros(())
    for _ in range(N_STEPS):
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        total += loss


@pytest.mark.parametrize(
    ("loop", "name", "addition"),
    [(keep_losses, "metrics.losses", "metrics.losses.append(loss)"), (add_losses, "total", "total += loss")],
)
def test_graph_that_a_variable_keeps_is_named_with_its_line(
    loop: Callable[[nn.Module, torch.optim.Optimizer], None], name: str, addition: str, steps: Steps
) -> None:
    model = Net()
    loop(model, SGD(model.parameters(), lr=0.1))
    growth = steps.recorder.growth.growth()
    assert growth is not None and growth.nodes > 0
    assert growth.variable == name
    lines = Path(__file__).read_text("utf-8").splitlines()
    assert lines[int(growth.place.rpartition(":")[2]) - 1].strip() == addition


class Caching(Net):
    """Keeps its outputs: on the class, which all models share, or on itself."""

    cache: ClassVar[list[Tensor]] = []

    def __init__(self, *, on_class: bool) -> None:
        super().__init__()
        self.on_class = on_class
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        if self.on_class:
            self.cache.append(output.detach().expand(2048, ROWS, 10).clone())
        else:
            self.outputs.append(output.detach().expand(2048, ROWS, 10).clone())
        return output


@pytest.mark.parametrize(("on_class", "name"), [(True, "cache"), (False, "outputs")])
def test_attribute_of_a_module_that_grows_is_named(on_class: bool, name: str, steps: Steps) -> None:
    model = nn.Sequential(Caching(on_class=on_class))
    train(model, SGD(model.parameters(), lr=0.1))
    Caching.cache.clear()
    growth = steps.recorder.growth.growth()
    assert growth is not None and growth.variable == f"Caching.{name}"
    lines = Path(__file__).read_text("utf-8").splitlines()
    assert lines[int(growth.place.rpartition(":")[2]) - 1].strip().startswith(f"self.{name}.append(")


def test_numbers_that_a_loop_collects_are_no_growth(steps: Steps) -> None:
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(N_STEPS):
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    assert steps.recorder.growth.growth() is None


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpoint_keeps_its_input_only(use_reentrant: bool, steps: Steps) -> None:
    inner = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
    first = nn.Linear(16, 16)
    optimizer = SGD([*inner.parameters(), *first.parameters()], lr=0.1)
    for _ in range(N_STEPS):
        x, y = batch()
        output = checkpoint(inner, first(x), use_reentrant=use_reentrant)
        torch.autograd.backward(F.cross_entropy(output, y))
        optimizer.step()
        optimizer.zero_grad()
    step = steps.last
    assert step.micro_batches == 1 and step.kept is not None
    if not use_reentrant:  # Else the pass inside the backward pass keeps more for a moment.
        assert step.kept.activations == ROWS * 16 * FLOAT


def test_weights_without_a_module_or_an_optimizer(steps: Steps) -> None:
    weights = torch.randn(16, 10, requires_grad=True)
    for _ in range(N_STEPS):
        x, y = batch()
        loss = F.cross_entropy(torch.tanh(x @ weights), y)
        weights.grad = None
        torch.autograd.backward(loss)
        assert weights.grad is not None
        weights.data -= 0.1 * weights.grad
    step = steps.last
    assert step.weights == step.gradients == 16 * 10 * FLOAT
    assert step.optimizers == () and step.optimizer == 0
    assert step.batch is None and step.rows is None
    assert step.kept is not None and step.kept.per_row is None
    assert all(part.n == 0 and ":" in part.kind for part in step.kept.parts)


def test_weights_in_16_bits_are_no_part_of_a_row(steps: Steps) -> None:
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    for _ in range(N_STEPS):
        x, y = batch()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    kept = steps.last.kept
    assert kept is not None and kept.per_row is not None
    assert kept.weight_copies == 2 * model.head.weight.numel()
    assert kept.per_row * ROWS == kept.activations - kept.weight_copies + kept.loss


def test_hooks_are_away_where_torch_refuses_them(steps: Steps) -> None:
    values = torch.ones(2, requires_grad=True)
    with torch.autograd.graph.disable_saved_tensors_hooks("refused"):  # As torch.func.grad does.
        values.exp()
    assert steps.recorder.kept.n_saved == 0
    values.exp()
    assert steps.recorder.kept.n_saved == 1


@pytest.mark.parametrize(("error", "is_memory"), [(torch.OutOfMemoryError("full"), True), (ValueError("no"), False)])
def test_step_in_which_memory_runs_out_has_what_was_known(error: Exception, is_memory: bool, steps: Steps) -> None:
    model = Net()
    output = model(batch()[0])
    account = steps.recorder.failed_account(error)
    assert (account is not None) == is_memory
    if account is not None:
        assert account.kept is not None and account.kept.activations == ROWS * 32 * FLOAT
        assert account.gradients is None and account.most is None
    assert output.requires_grad


class TimeFirst(nn.Module):
    """Ids [T, B] → logits [T · B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = nn.Embedding(10, 8)
        self.layer = nn.RNN(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.ids(x))[0]
        return hidden.flatten(0, 1)


@pytest.mark.parametrize(("is_next", "rows"), [(True, ROWS), (False, None)])
def test_time_is_not_taken_for_rows(is_next: bool, rows: int | None, steps: Steps) -> None:
    model = TimeFirst()
    optimizer = SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        ids = torch.randint(10, (13, ROWS))
        y = ids[1:] if is_next else torch.randint(10, (12, ROWS))
        torch.autograd.backward(F.cross_entropy(model(ids[:-1]), y.flatten()))
        optimizer.step()
        optimizer.zero_grad()
    assert steps.last.rows == rows


def test_second_of_two_steps_has_activations(steps: Steps) -> None:
    """That a step has ended is known only when the second one's backward pass is over."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        x, y = batch()
        torch.autograd.backward(F.cross_entropy(model(x), y))
        optimizer.step()
        optimizer.zero_grad()
    assert steps.last.n == 2 and steps.last.rows == ROWS
    assert steps.last.kept is not None and steps.last.kept.activations == ROWS * 32 * FLOAT


def test_further_models_and_data_are_other_tensors(steps: Steps) -> None:
    model = Net()
    average = Net()
    data = torch.zeros(1000, 16)
    scalar = torch.zeros(5000).resize_(1)
    train(model, SGD(model.parameters(), lr=0.1))
    others = {other.what: other.bytes for other in steps.last.others or ()}
    assert others["Net"] == FLOAT * sum(each.numel() for each in (*average.parameters(), *average.buffers()))
    assert others["[1000, 16] float32"] == data.nbytes
    assert others["[1] float32, in a larger storage"] == 5000 * scalar.element_size()
