"""What became non-finite first in a watched script: named with its rows, and the script's results stay."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch.loops import V, batch
from tests.core.watch.test_recorder import recording, weights
from tui_lab.core import events as ev
from tui_lab.core.nonfinite.record import Origin

FAILS_AT = 3
"""The step, counted from 0, whose rows 1 and 2 go wrong."""
BAD_TOKEN = V - 1


class Block(nn.Module):
    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.linear = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.2)
        self.change = change

    def forward(self, h: Tensor, bad: Tensor) -> Tensor:
        return h + self.change(self.dropout(self.linear(self.norm(h))), bad[:, None, None])


class LanguageModel(nn.Module):
    """Token ids [B, T] → logits, and the loss if there are targets. A row with two bad tokens in front goes wrong."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor], block: type[Block]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 8)
        self.blocks = nn.ModuleList([Block(lambda h, bad: h), block(change), Block(lambda h, bad: h)])
        self.head = nn.Linear(8, V)
        self.n_calls = 0

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        self.n_calls += 1
        bad = (x[:, :2] == BAD_TOKEN).all(dim=1)
        h = self.embedding(x)
        for block in self.blocks:
            h = block(h, bad)
        logits = self.head(h)
        return logits if y is None else (logits, F.cross_entropy(logits.flatten(0, 1), y.flatten()))


def overflow(h: Tensor, bad: Tensor) -> Tensor:
    return h * torch.where(bad, 1e38, 1.0) * torch.where(bad, 1e3, 1.0)


def infinite_derivative(h: Tensor, bad: Tensor) -> Tensor:
    return h + torch.where(bad, h * 0.0, 1.0).sqrt() - 1.0


def train(
    model: LanguageModel, *, own_loss: bool = False, clip: bool = False, dtype: torch.dtype | None = None
) -> list[float]:
    """Train for 5 steps; the losses, and a random number at the end, which tells what was drawn before."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(5):
        x, y = batch(step)
        x[:, 0] = 0
        if step == FAILS_AT:
            x[1:3, :2] = BAD_TOKEN
        with torch.autocast("cpu", dtype=dtype) if dtype else contextlib.nullcontext():
            if own_loss:
                loss = F.cross_entropy(model(x).view(-1, V), y.view(-1))
            else:
                _, loss = model(x, y)
        loss.backward()  # type: ignore[no-untyped-call]
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return [*losses, float(torch.rand(()))]


def start(change: Callable[[Tensor, Tensor], Tensor], block: type[Block] = Block) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(change, block)


def same(a: LanguageModel, b: LanguageModel) -> bool:
    pairs = zip([*weights(a), *a.buffers()], [*weights(b), *b.buffers()], strict=True)
    return a.n_calls == b.n_calls and all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def traced(
    folder: Path, change: Callable[[Tensor, Tensor], Tensor], block: type[Block] = Block, **options: Any
) -> Origin:
    """The origin in a watched script, whose results must be those of the script alone."""
    alone = start(change, block)
    expected = train(alone, **options)
    watched = start(change, block)
    with recording(folder) as record:
        losses = train(watched, **options)
    assert same(alone, watched) and repr(losses) == repr(expected)
    [event] = [event for event in record.run.events() if isinstance(event, ev.NonFinite)]
    assert event.step == FAILS_AT, "the steps done before"
    return event.origin


@pytest.mark.parametrize("options", [{}, {"own_loss": True}, {"dtype": torch.bfloat16}])
def test_overflow_in_a_block_names_it_and_the_rows(options: dict[str, Any], tmp_path: Path) -> None:
    origin = traced(tmp_path, overflow, **options)
    assert (origin.quantity, origin.phase, origin.cause) == ("loss", "forward", "overflow")
    assert (origin.module, origin.module_type, origin.kind) == ("blocks.1", "Block", "inf")
    assert [row.row for row in origin.rows] == [1, 2] and origin.n_batch == 4
    assert origin.line.startswith(__file__)
    assert all(math.isfinite(values.low or 0.0) and not values.n_inf for values in origin.inputs)


@pytest.mark.parametrize("options", [{}, {"own_loss": True}, {"clip": True}])
def test_gradient_that_is_not_finite_names_the_parameter_and_the_rows(options: dict[str, Any], tmp_path: Path) -> None:
    origin = traced(tmp_path, infinite_derivative, **options)
    assert (origin.quantity, origin.phase, origin.module) == ("gradient", "backward", "blocks.1")
    assert origin.operation == "SqrtBackward0" and [row.row for row in origin.rows] == [1, 2]
    assert origin.parameter.startswith("blocks.1.linear.")


class LambdaBlock(Block):
    """Calls its layer through a lambda, as minGPT does: a copy of the block still calls the layer of the original."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(change)
        self.bad = torch.empty(0)
        self.linear.register_forward_hook(lambda layer, args, output: self.change(output, self.bad))
        self.call: Callable[[Tensor], Tensor] = lambda h: self.linear(self.norm(h))

    def forward(self, h: Tensor, bad: Tensor) -> Tensor:
        self.bad = bad[:, None, None]
        return h + self.call(h)


class BlockWithResults(Block):
    """Keeps its last result, as llama2.c does with its loss, and so cannot be copied; its gradient needs a buffer."""

    last: Tensor

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(change)
        self.register_buffer("scale", torch.full((8,), 0.9))

    def forward(self, h: Tensor, bad: Tensor) -> Tensor:
        self.last = super().forward(h * self.get_buffer("scale"), bad)
        return self.last


@pytest.mark.parametrize("change", [overflow, infinite_derivative])
def test_model_that_cannot_be_copied_is_replayed_itself_and_stays(
    change: Callable[[Tensor, Tensor], Tensor], tmp_path: Path
) -> None:
    origin = traced(tmp_path, change, block=BlockWithResults)
    assert origin.module == "blocks.1" and [row.row for row in origin.rows] == [1, 2]


@pytest.mark.parametrize(("change", "operation"), [(overflow, "mul"), (infinite_derivative, "SqrtBackward0")])
def test_layer_that_is_called_through_a_lambda_is_named_and_gets_no_gradient(
    change: Callable[[Tensor, Tensor], Tensor], operation: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    origin = traced(tmp_path, change, block=LambdaBlock)
    assert (origin.module, origin.operation) == ("blocks.1.linear", operation)
    assert capfd.readouterr().err == "", "torch has nothing to say about the replay"
    assert [row.row for row in origin.rows] == [1, 2]


def test_arithmetic_with_the_loss_itself_is_named(tmp_path: Path) -> None:
    """Which of its operations it was is not known: their results are not kept."""
    with recording(tmp_path) as record:
        model = start(lambda h, bad: h)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(2):
            _, loss = model(*batch(step))
            (loss * (float("nan") if step else 1.0) / 4).backward()
            optimizer.step()
    [event] = [event for event in record.run.events() if isinstance(event, ev.NonFinite)]
    assert (event.origin.phase, event.origin.kind) == ("loss", "nan")
    assert event.origin.operation == "MulBackward0 or DivBackward0"


def test_healthy_script_has_no_event(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        train(start(lambda h, bad: h))
    assert not any(isinstance(event, ev.NonFinite) for event in record.run.events())


def test_it_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_TRACE", "off")
    with recording(tmp_path) as record:
        train(start(overflow))
    assert not any(isinstance(event, ev.NonFinite) for event in record.run.events())


def test_time_of_the_replay_is_not_that_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SECONDS = 3600.0
    with recording(tmp_path) as record:
        clock = record.recorder.clock
        monkeypatch.setattr(clock, "_clock", lambda: next_second())
        later = [0.0]

        def next_second() -> float:
            later[0] += 1e-3
            return later[0]

        trace = record.recorder.non_finite.watch._origin

        def slow_trace(*arguments: Any) -> Origin:
            later[0] += SECONDS
            return trace(*arguments)

        monkeypatch.setattr(record.recorder.non_finite.watch, "_origin", slow_trace)
        train(start(overflow))
    assert later[0] > SECONDS, "the step was traced"
    assert all(event.seconds < 1.0 for event in record.run.events() if isinstance(event, ev.StepDone))
