"""How a plug-in is tested: its parts alone, and then as tui-lab finds it."""

from pathlib import Path

import numpy as np
import torch
from tui_lab_addition.task import make
from tui_lab_addition.tokenizer import Letters
from tui_lab_addition.watcher import STEPS, SlowStart

from tui_lab import Case, examine
from tui_lab.plugins import StepDone, TaskSettings, decode

CONFIG = Path(__file__).parents[1] / "addition.toml"


def settings(**options: object) -> TaskSettings:
    return TaskSettings(
        context=8, val_fraction=0.1, path="bundled", tokenizer="letters", vocab="full", stride=1, length=6, n_digits=10,
        options=options,
    )  # fmt: skip


def step(number: int, loss: float) -> StepDone:
    return StepDone(
        step=number, loss=loss, loss_ema=loss, lr=0.1, grad_norm=1.0, epoch=0, tokens=1, seconds=0.1, tokens_per_s=10.0
    )


def test_only_the_digits_of_the_sum_have_targets() -> None:
    task = make(settings(digits=2))
    x, y = task.train.examples(np.arange(3))
    text = decode(task.tokenizer, x[0])
    answer = decode(task.tokenizer, y[0][y[0] >= 0])
    assert int(answer) == int(text[:2]) + int(text[3:5]) and len(answer) == 3


def test_training_and_validation_share_no_sum() -> None:
    task = make(settings(digits=1))
    train, val = (
        {row.tobytes() for row in part.examples(np.arange(part.n_examples))[0]} for part in (task.train, task.val)
    )
    assert not train & val


def test_the_tokenizer_comes_back_from_its_state() -> None:
    tokenizer = Letters.from_text(["ab", "ca"])
    assert tokenizer.n_vocab == 3 and Letters.from_state(tokenizer.state()).encode("cab").tolist() == [2, 0, 1]


def test_a_run_that_does_not_learn_gets_a_hint_and_one_that_does_gets_none() -> None:
    flat, falling = SlowStart(), SlowStart()
    assert [hint for n in range(1, STEPS + 1) for hint in flat.update(step(n, 2.0))] != []
    assert [hint for n in range(1, STEPS + 1) for hint in falling.update(step(n, 2.0 - n / STEPS))] == []


def test_the_doctor_runs_the_check() -> None:
    """Needs the package to be installed, since the doctor finds checks by their entry points."""
    model = torch.nn.Sequential(torch.nn.Embedding(5, 8), torch.nn.Linear(8, 5))
    x = torch.randint(0, 5, (8, 6), generator=torch.Generator().manual_seed(0))
    y = torch.zeros_like(x)
    report = examine(Case(model, (x, y)))
    assert "frequent-target/one_token" in [str(hint.code) for hint in report.hints]
