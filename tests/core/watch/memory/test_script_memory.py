"""The memory of a script that runs in a process of its own."""

import textwrap
from pathlib import Path

import pytest

from tui_lab.core.watch.memory.batch_estimate import batch_estimate
from tui_lab.core.watch.memory.script_memory import ScriptMemory, measure_script
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_process import Target
from tui_lab.util.errors import ConfigError

# torch's own optimizers import torch._dynamo, which takes as long as importing torch.
SCRIPT = """
    import os
    import sys
    import torch
    from torch import nn
    from torch.nn import functional as F
    from tui_lab.core.training.optim_without_dynamo import SGD

    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(int(sys.argv[1])):
        optimizer.zero_grad()
        loss = F.mse_loss(model(torch.randn(512, 64)), torch.zeros(512, 64))
        loss.backward()
        optimizer.step()
        torch.save(model.state_dict(), "weights.pt")
        os.makedirs("out", exist_ok=True)
        open("out/log.txt", "w").close()
        open("history.json", "w").close()
"""
OUT_OF_MEMORY = """
    import torch
    from torch import nn

    layer = nn.Linear(8, 8)
    hidden = layer(torch.randn(4, 8)).exp()
    hidden.flatten()[:1].expand(10**12).exp()
"""


def memory_of(folder: Path, text: str, *arguments: str) -> ScriptMemory:
    script = folder / "train.py"
    script.write_text(textwrap.dedent(text), "utf-8")
    return measure_script(ScriptToRun(Target(str(script), arguments)))


def test_memory_of_a_script_that_is_ended_after_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    memory = memory_of(tmp_path, SCRIPT, "1000")
    assert memory.n_steps == 6 and memory.errors == () and memory.out_of_memory == "" and memory.killed is None
    step = memory.step
    weights = 4 * (64 * 256 + 256 + 256 * 64 + 64)
    assert step.weights == step.gradients == step.optimizer == weights
    assert step.kept is not None and step.kept.activations == 512 * 256 * 4
    assert step.held is not None and 3 * weights <= step.held
    assert memory.most is not None and memory.phase in ("forward", "backward")
    assert 2 * weights + step.kept.activations + step.kept.loss < memory.most < step.held + 4 * step.kept.activations
    assert memory.process is not None and memory.peak is not None and memory.process < memory.peak
    estimate = batch_estimate(memory)
    assert estimate is not None and estimate.rows == 512 and memory.most < estimate.twice <= 2 * memory.most
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.json", "out", "train.py"]
    assert memory.created == ("out/", "history.json")


@pytest.mark.slow
def test_script_that_runs_out_of_memory_has_what_was_known(tmp_path: Path) -> None:
    memory = memory_of(tmp_path, OUT_OF_MEMORY)
    assert memory.out_of_memory and memory.n_steps == 0
    assert memory.step.n == 1 and memory.most is None
    assert memory.step.weights == 4 * (8 * 8 + 8)
    assert memory.step.kept is not None and memory.step.kept.activations == 4 * 8 * 4  # The output of exp.


@pytest.mark.slow
@pytest.mark.parametrize("text", ["import torch\nraise ValueError", "import torch"])
def test_script_without_a_step_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        memory_of(tmp_path, text)
    assert caught.value.problems[0].code == "user_code"
