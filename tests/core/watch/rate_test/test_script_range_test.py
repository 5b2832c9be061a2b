"""The range test of a script: the losses of its own loop at our rates, and how a test ends."""

import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tui_lab.core.training.range_points import RateRange, rates_between
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_process import Target
from tui_lab.core.watch.rate_test.rated_group import RatedGroup
from tui_lab.core.watch.rate_test.script_range_test import ScriptRangeTest
from tui_lab.util.errors import ConfigError

N = 12
SCRIPT = """
    import sys
    import torch
    from torch import nn
    from torch.nn import functional as F

    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    for step in range(int(sys.argv[1])):
        optimizer.zero_grad()
        loss = F.mse_loss(model(torch.randn(8, 4)), torch.zeros(8, 3))
        loss.backward()
        optimizer.step()
        schedule.step()
        torch.save(model.state_dict(), "weights.pt")
    1 / 0
"""


# torch's own optimizers import torch._dynamo, which takes as long as importing torch; some slow tests use them.
QUICK_SCRIPT = SCRIPT.replace(
    "    model = nn", "    from tui_lab.core.training.optim_without_dynamo import SGD\n    model = nn"
).replace("torch.optim.SGD", "SGD")


def range_test(folder: Path, text: str, *arguments: str, low: float = 1e-3, high: float = 1.0) -> ScriptRangeTest:
    script = folder / "train.py"
    script.write_text(textwrap.dedent(text), "utf-8")
    return ScriptRangeTest(ScriptToRun(Target(str(script), arguments)), RateRange(N, low, high), seed=3)


def losses_of_plain_loop(rates: list[float]) -> list[float]:
    torch.manual_seed(3)
    model = nn.Linear(4, 3)
    losses = []
    for rate in [*rates, 0.0]:
        loss = F.mse_loss(model(torch.randn(8, 4)), torch.zeros(8, 3))
        losses.append(loss.item())
        for weight, gradient in zip(
            model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            weight.data -= rate * gradient
    return losses


def test_losses_are_those_of_a_plain_loop_and_no_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    test = range_test(tmp_path, QUICK_SCRIPT, "100")
    points = list(test.run())
    rates = rates_between(1e-3, 1.0, N)
    assert [point.lr for point in points] == pytest.approx(rates)
    assert [test.start_loss, *(point.loss for point in points)] == pytest.approx(losses_of_plain_loop(rates), rel=1e-5)
    assert test.groups == (RatedGroup(1, "SGD", 1, "", 15, 1.0),)
    assert test.optimizer == "SGD" and test.diverged == ""
    assert test.script_lrs == pytest.approx([0.5 * 0.9**step for step in range(N + 1)])
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.slow
def test_script_that_ends_early_keeps_its_points(tmp_path: Path) -> None:
    test = range_test(tmp_path, SCRIPT, "5")
    assert len(list(test.run())) == 4
    assert "ZeroDivisionError" in test.diverged


@pytest.mark.slow
def test_loss_that_is_not_finite_ends_the_test(tmp_path: Path) -> None:
    test = range_test(tmp_path, SCRIPT.replace("torch.randn(8, 4)", "1e15 * torch.randn(8, 4)"), "100")
    assert len(list(test.run())) < N and test.diverged


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "import torch\nraise ValueError",
        "import torch\nw = torch.ones(3, requires_grad=True)\n"
        "for _ in range(20):\n    (w * w).sum().backward()\n    w.data -= 0.1 * w.grad\n    w.grad = None\n",
    ],
)
def test_script_without_an_optimizer_step_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        list(range_test(tmp_path, text).run())
    assert caught.value.problems[0].code == "user_code"
