"""Following the steps of a loop in this process, with a clock that ticks at each look."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from tui_lab.core.training.optim_without_dynamo import SGD, AdamW
from tui_lab.core.watch.model.model_search import ModelFinder
from tui_lab.core.watch.optimizer import updates_by_hand
from tui_lab.core.watch.speed.changes import Autocast, Change, Fused, Seen, can_fuse, in_float32, possible_changes
from tui_lab.core.watch.speed.phases import PhaseClock
from tui_lab.core.watch.speed.speed_recorder import SpeedRecorder
from tui_lab.core.watch.speed.stages import Plan
from tui_lab.core.watch.speed.turns import AS_IT_IS


class Ended(BaseException):
    """Ends the loop, as the end of the process does."""


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11))


def batches() -> Iterator[Tensor]:
    while True:
        yield from DataLoader(TensorDataset(torch.arange(44).reshape(4, 11) % 11), batch_size=2)


def train(model: nn.Module, optimizer: Optimizer) -> None:
    for step, (x,) in enumerate(batches()):
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(x).flatten(0, 1), x.flatten()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 40 == 39:
            with torch.no_grad():
                model(x)


def recorded(loop: Callable[[], None], without: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Return what is written while a loop trains."""
    records: list[dict[str, Any]] = []
    ticks = iter(range(10**9))

    def end() -> None:
        raise Ended

    recorder = SpeedRecorder(
        Plan(5.0, without), lambda **record: records.append(record), end, lambda: 0.05 * next(ticks)
    )
    recorder.install()
    with pytest.raises(Ended):
        loop()
    recorder.finish()
    return records


def test_parts_of_a_step_and_the_blocks_of_each_change_are_written() -> None:
    model = small_model()
    optimizer = AdamW(model.parameters(), lr=0.1)
    threads = torch.get_num_threads()
    records = recorded(lambda: train(model, optimizer))
    assert records[0].keys() == {"parts"} and {"done": True} in records
    parts = records[0]["parts"]
    assert parts["size"] == {"n_tokens": 22 * parts["n_steps"], "n_samples": 2 * parts["n_steps"], "rows": 2}
    assert parts["device"] == "cpu" and parts["workers"] == 0 and parts["optimizers"] == ["AdamW"]
    assert all(parts["phases"][phase] > 0 for phase in ("forward", "backward", "update", "loop", "data"))
    changes = set(records[1]["changes"])
    assert {"bf16", "fused"} <= changes and records[1]["refused"].keys() == {"compile"}
    assert {record["block"]["change"] for record in records if "block" in record} == changes | {AS_IT_IS}
    assert not any("error" in record for record in records)
    # The last block is one of the script as it is, so everything is off again.
    assert "forward" not in vars(model) and torch.get_num_threads() == threads
    assert optimizer.param_groups[0]["fused"] is None


def test_change_with_which_the_script_failed_is_not_tried_again() -> None:
    model = small_model()
    records = recorded(lambda: train(model, AdamW(model.parameters())), frozenset(("bf16", "fused")))
    blocks = {record["block"]["change"] for record in records if "block" in record}
    assert AS_IT_IS in blocks and not blocks & {"bf16", "fused"}
    assert "bf16" in records[1]["changes"]


def test_time_counts_for_the_phase_in_which_it_passed() -> None:
    now = 0.0
    clock = PhaseClock(lambda: now, lambda: None)
    for phase, seconds in (("forward", 3.0), ("backward", 5.0), ("update", 1.0), ("loop", 4.0)):
        clock.enter(phase)  # type: ignore[arg-type]
        now += seconds
    clock.waited(2.5)
    clock.enter("evaluation")
    now += 7.0
    clock.waited(6.0)  # The data of an evaluation is a part of it.
    assert clock.take() == {
        "data": 2.5,
        "forward": 3.0,
        "backward": 5.0,
        "update": 1.0,
        "loop": 1.5,
        "evaluation": 7.0,
    }
    assert not any(clock.take().values())


def updated(optimizer_of: Callable[[nn.Module], Optimizer], change_of: Callable[[Optimizer], Change] | None) -> Tensor:
    """Return the weights after six steps, of which a change is on for the third and fourth."""
    model = small_model()
    optimizer = optimizer_of(model)
    x = torch.arange(22).reshape(2, 11) % 11
    change = None
    for step in range(6):
        if change_of is not None and step == 2:
            change = change_of(optimizer)
            change.turn_on()
        if change is not None and step == 4:
            change.turn_off()
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(x).flatten(0, 1), x.flatten()))
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "optimizer_of",
    [
        lambda model: AdamW(model.parameters(), lr=0.1),
        lambda model: SGD(model.parameters(), lr=0.1, momentum=0.9),
    ],
)
def test_fused_steps_in_between_update_as_the_others_do(optimizer_of: Callable[[nn.Module], Optimizer]) -> None:
    plain = updated(optimizer_of, None)
    changed = updated(optimizer_of, lambda optimizer: Fused([optimizer]))
    torch.testing.assert_close(changed, plain)


def test_autocast_calls_the_model_in_bfloat16_and_returns_float32() -> None:
    model = small_model()
    x = torch.arange(5)
    plain = model(x)
    change = Autocast(model, "cpu")
    change.turn_on()
    changed = model(x)
    change.turn_off()
    assert changed.dtype == torch.float32 and not torch.equal(changed, plain)
    torch.testing.assert_close(changed, plain, rtol=0.1, atol=0.1)
    assert torch.equal(model(x), plain)


def test_outputs_of_every_kind_become_float32() -> None:
    tensor = torch.ones(2, dtype=torch.bfloat16)
    output = in_float32({"logits": tensor, "hidden": (tensor, [tensor]), "ids": torch.arange(2), "loss": math.pi})
    assert output["logits"].dtype == output["hidden"][0].dtype == output["hidden"][1][0].dtype == torch.float32
    assert output["ids"].dtype == torch.int64 and output["loss"] == math.pi


class OwnStep(SGD):
    def step(self, closure: Any = None) -> None: ...  # type: ignore[override]


def seen_with(model: nn.Module | None, optimizer: Optimizer | None, **fields: bool) -> Seen:
    seen = Seen()
    seen.model = model
    seen.optimizers = [] if optimizer is None else [optimizer]
    for name, value in fields.items():
        setattr(seen, name, value)
    return seen


@pytest.mark.parametrize(
    ("seen", "refused"),
    [
        (seen_with(None, None), {"bf16", "fused", "compile"}),
        (seen_with(small_model(), None, has_autocast=True), {"bf16", "fused", "compile"}),
        (seen_with(small_model().double(), None), {"bf16", "fused", "compile"}),
        (seen_with(small_model(), SGD(small_model().parameters(), lr=0.1)), {"compile"}),
        (seen_with(small_model(), OwnStep(small_model().parameters(), lr=0.1)), {"fused", "compile"}),
        (seen_with(small_model(), SGD(small_model().parameters(), lr=0.1), has_scaler=True), {"fused", "compile"}),
    ],
)
def test_what_the_script_has_or_cannot_have_is_not_tried_and_says_why(seen: Seen, refused: set[str]) -> None:
    changes, reasons = possible_changes(seen, compile_too=False)
    assert set(reasons) == refused and all(reasons.values())
    assert {change.name for change in changes}.isdisjoint(refused)


def test_anomaly_detection_is_tried_without() -> None:
    changes, _ = possible_changes(seen_with(None, None, detects_anomalies=True), compile_too=False)
    (change,) = (each for each in changes if each.name == "no-anomaly")
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        change.turn_on()
        assert not torch.is_anomaly_enabled()
        change.turn_off()
        assert torch.is_anomaly_enabled()


def test_optimizers_that_are_fused_or_differentiable_cannot_become_so() -> None:
    model = small_model()
    assert can_fuse(SGD(model.parameters(), lr=0.1))
    assert not can_fuse(SGD(model.parameters(), lr=0.1, fused=True))
    assert not can_fuse(SGD(model.parameters(), lr=0.1, differentiable=True))


def test_a_change_that_cannot_be_turned_on_ends_the_script_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def turn_on(change: Fused) -> None:
        raise KeyError("foreach")

    monkeypatch.setattr(Fused, "turn_on", turn_on)
    model = small_model()
    records = recorded(lambda: train(model, AdamW(model.parameters())), frozenset(("bf16",)))
    assert [record["turn"] for record in records if "turn" in record][-1] == "fused"
    assert "foreach" in records[-2]["ended"]["error"]


def by_hand(model: nn.Module, x: Tensor) -> None:
    loss = functional.cross_entropy(model(x).flatten(0, 1), x.flatten())
    model.zero_grad()
    torch.autograd.backward(loss)
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.1 * parameter.grad)


def test_model_of_updates_by_hand_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[object] = []
    original = ModelFinder.search

    def search(finder: ModelFinder, optimizers: Iterable[Optimizer]) -> None:
        searches.append(optimizers)
        original(finder, optimizers)

    monkeypatch.setattr(ModelFinder, "search", search)
    monkeypatch.setattr(updates_by_hand, "_has_optimizer", lambda: False)  # Other tests may have made one.
    model = small_model()
    x = torch.arange(22).reshape(2, 11) % 11

    def loop() -> None:
        for _ in range(1000):
            by_hand(model, x)

    records = recorded(loop)
    assert records[0]["parts"]["model"] == "Sequential" and records[0]["parts"]["optimizers"] == []
    assert len(searches) == 1


def test_training_that_follows_another_one_is_measured_instead() -> None:
    first, second = small_model(), nn.Sequential(small_model(), nn.Tanh(), nn.Linear(11, 11))
    optimizers = [SGD(each.parameters(), lr=0.1) for each in (first, second)]
    x = torch.arange(22).reshape(2, 11) % 11

    def loop() -> None:
        for step in range(1000):
            is_second = step >= 30
            model = (first, second)[is_second]
            torch.autograd.backward(functional.cross_entropy(model(x).flatten(0, 1), x.flatten()))
            optimizers[is_second].step()

    records = recorded(loop)
    restart = records.index({"restart": True})
    assert {"done": True} in records[restart:] and "forward" not in vars(first)
    assert records[restart + 1]["parts"]["size"]["rows"] == 2


def test_time_of_an_optimizer_that_calls_for_the_loss_itself_is_that_of_the_update() -> None:
    model = small_model()
    optimizer = SGD(model.parameters(), lr=0.1)
    x = torch.arange(22).reshape(2, 11) % 11
    now = 0.0
    phases: list[str] = []
    recorder = SpeedRecorder(Plan(1e9), lambda **record: None, lambda: None, lambda: now)

    def closure() -> float:
        loss = functional.cross_entropy(model(x).flatten(0, 1), x.flatten())
        torch.autograd.backward(loss)
        phases.append(recorder.stages.phases.phase)
        return loss.item()

    recorder.install()
    for _ in range(3):
        optimizer.step(closure)
        phases.append(recorder.stages.phases.phase)
    recorder.finish()
    assert phases == ["update", "loop"] * 3


def test_autocast_of_a_script_is_turned_off() -> None:
    changes, _ = possible_changes(seen_with(small_model(), None, has_autocast=True), compile_too=False)
    (change,) = (each for each in changes if each.name == "no-autocast")
    context = torch.autocast("cpu", torch.bfloat16)
    seen = []
    for turn in (change.turn_on, change.turn_off):
        turn()
        with context:
            seen.append(torch.is_autocast_enabled("cpu"))
    assert seen == [False, True] and not torch.is_autocast_enabled("cpu")
