"""train.compile: updates run compiled code with the same results; everything else calls the model as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from tests.core.tiny import losses, of_kind, same_weights, trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.training.compiled import require_compiler, with_compiled_loss
from tui_lab.core.training.loss import loss_sum
from tui_lab.core.training.step_metrics import DEAD_UNITS_EVERY
from tui_lab.core.training.trainer import Trainer
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError

INDUCTOR_WARNING = "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
"""What torch's own compiler causes when it is imported."""


class Backend:
    """A compiler that runs the graph as it is, and counts the graphs and how often they are called."""

    def __init__(self) -> None:
        self.graphs = 0
        self.calls = 0

    def __call__(self, graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.graphs += 1

        def run(*tensors: Tensor) -> Any:
            self.calls += 1
            return graph.forward(*tensors)

        return run


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()


def compiled(*overrides: str, **extra: Any) -> tuple[Trainer, Backend]:
    training = trainer(*overrides, **extra)
    backend = Backend()
    training.hooks = with_compiled_loss(training.hooks, training.model, backend)
    return training, backend


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.dropout=0.2", "optim.grad_clip=0.3", "train.accumulate=2"),
        pytest.param(("train.accumulate=2", "train.precision=bf16"), marks=pytest.mark.slow),
    ],
    ids=["dropout and micro-batches", "micro-batches in bf16"],
)
def test_updates_run_compiled_code_and_give_the_same_losses(overrides: tuple[str, ...]) -> None:
    eager = trainer(*overrides)
    training, backend = compiled(*overrides)
    assert losses(training.events()) == losses(eager.events())
    assert same_weights(training, eager)
    # Dead units are measured at the first step by hooks.
    assert backend.calls == 7 * training.config.train.accumulate


def test_steps_that_are_measured_by_hooks_are_not_compiled() -> None:
    steps = DEAD_UNITS_EVERY + 5
    training, backend = compiled(f"train.steps={steps}")
    done = of_kind(ev.StepDone, training.events())
    assert [event.step for event in done if event.dead_units is not None] == [1, DEAD_UNITS_EVERY + 1]
    assert backend.calls == steps - 2


def test_evaluations_and_looks_at_the_model_are_not_compiled() -> None:
    training, backend = compiled()
    looked: list[int] = []

    def look(model: Any) -> None:
        model(torch.zeros(1, 5, dtype=torch.long))
        looked.append(backend.calls)

    for event in training.events():
        if isinstance(event, ev.StepDone) and event.step == 4:
            training.commands.put(cmd.Evaluate())
            training.commands.put(cmd.Inspect(look))
    assert looked == [3] and backend.calls == 7


def test_live_changes_of_batch_size_and_dropout_take_effect() -> None:
    results = []
    for training in (trainer("train.steps=12"), compiled("train.steps=12")[0]):
        done = []
        for event in training.events():
            if isinstance(event, ev.StepDone):
                done.append(event.loss)
                if event.step == 4:
                    training.commands.put(cmd.Set("train.batch_size", 7))
                    training.commands.put(cmd.Set("model.dropout", 0.5))
        results.append(done)
    assert results[0] == results[1]


def test_resumed_run_is_the_same_bit_for_bit() -> None:
    whole, _ = compiled("model.dropout=0.1")
    expected = losses(whole.events())
    checkpoints: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> str:
        checkpoints.append(checkpoint)
        return "kept"

    list(compiled("model.dropout=0.1", "train.checkpoint_every=4", save=keep)[0].events())
    first = next(each for each in checkpoints if each.progress.step == 4)
    resumed, backend = compiled(resume=first)
    assert losses(resumed.events()) == expected[4:]
    assert same_weights(resumed, whole) and backend.calls > 0


def test_step_that_overflows_is_traced_without_compiled_code() -> None:
    training, backend = compiled("optim.name=sgd", "optim.lr=100", "optim.grad_clip=0", "train.steps=40")
    last = list(training.events())[-2:]
    assert isinstance(last[1], ev.Failed)
    assert isinstance(last[0], ev.NonFinite) and last[0].origin.phase != "unknown"
    assert backend.calls > 0


def test_losses_of_the_rows_are_kept() -> None:
    kept: list[list[float]] = []
    for make in (trainer, lambda **extra: compiled(**extra)[0]):
        rows: list[Any] = []
        list(make(keep_rows=rows.append).events())
        kept.append([float(total) for update in rows for total in update.sums])
    assert kept[0] == kept[1] and kept[0]


def test_a_planted_fault_keeps_its_own_loss() -> None:
    plain = trainer("faults=['gradient_ascent']").hooks.loss_sum
    training, backend = compiled("faults=['gradient_ascent']")
    assert training.hooks.loss_sum is plain is not loss_sum
    list(training.events())
    assert backend.calls == 0


def test_error_of_the_compiler_ends_the_run_with_a_message() -> None:
    def fail(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise ValueError("no such instruction")

    training = trainer()
    training.hooks = with_compiled_loss(training.hooks, training.model, fail)
    last = list(training.events())[-1]
    assert isinstance(last, ev.Failed) and last.step == 1
    assert "no such instruction" in last.message and "train.compile" in last.message


def test_missing_compiler_is_an_error_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(ConfigError) as error:
        require_compiler(torch.device("cpu"))
    problem = error.value.problems[0]
    assert (problem.code, problem.key) == ("unavailable", "train.compile")
    with pytest.raises(ConfigError):
        trainer("train.compile=true")


@pytest.mark.slow
@pytest.mark.filterwarnings(INDUCTOR_WARNING)
def test_torchs_compiler_gives_the_same_losses_and_a_resumed_run_the_same_bits() -> None:
    setting = ("train.compile=true", "train.checkpoint_every=4")
    expected = losses(trainer().events())
    checkpoints: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> str:
        checkpoints.append(checkpoint)
        return "kept"

    whole = trainer(*setting, save=keep)
    done = losses(whole.events())
    assert done == pytest.approx(expected, rel=1e-5)
    first = next(each for each in checkpoints if each.progress.step == 4)
    resumed = trainer(resume=first)
    assert losses(resumed.events()) == done[4:]
    assert same_weights(resumed, whole)


@pytest.mark.slow
@pytest.mark.filterwarnings(INDUCTOR_WARNING)
def test_a_users_model_is_compiled(tmp_path: Path) -> None:
    source = tmp_path / "model.py"
    source.write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Model(nn.Module):\n"
        "    def __init__(self, n_vocab, d_model):\n"
        "        super().__init__()\n"
        "        self.embedding = nn.Embedding(n_vocab, d_model)\n"
        "        self.memory = nn.GRU(d_model, d_model, batch_first=True)\n"
        "        self.head = nn.Linear(d_model, n_vocab)\n"
        "    def forward(self, x):\n"
        "        h, _ = self.memory(self.embedding(x))\n"
        "        return self.head(h), float(h.mean())\n"
    )
    trust.allow(f"{source}:Model")
    named = f"model.source={source}:Model"
    expected = losses(trainer(named).events())
    assert losses(trainer(named, "train.compile=true").events()) == pytest.approx(expected, rel=1e-5)
