"""The speed of a script that runs in a process of its own."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_process import Target
from tui_lab.core.watch.speed import script_speed
from tui_lab.core.watch.speed.script_speed import ScriptSpeed, StepTime, measure_speed
from tui_lab.core.watch.speed.stages import Size
from tui_lab.core.watch.speed.turns import AS_IT_IS
from tui_lab.util.errors import ConfigError

# torch's own optimizers import torch._dynamo, which takes as long as importing torch.
SCRIPT = """
    import sys
    import torch
    from torch import nn
    from torch.nn import functional as F
    from tui_lab.core.training.optim_without_dynamo import SGD

    class Float32Only(nn.Module):
        def forward(self, x):
            if torch.is_autocast_enabled("cpu"):
                raise TypeError("float32 only")
            return x

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), Float32Only())
    optimizer = SGD(model.parameters(), lr=0.1)
    for step in range(int(sys.argv[1])):
        optimizer.zero_grad()
        loss = F.mse_loss(model(torch.randn(32, 64)), torch.zeros(32, 64))
        loss.backward()
        optimizer.step()
        torch.save(model.state_dict(), "weights.pt")
"""


def speed_of(folder: Path, text: str, *arguments: str) -> tuple[ScriptSpeed, list[StepTime]]:
    script = folder / "train.py"
    script.write_text(textwrap.dedent(text), "utf-8")
    steps: list[StepTime] = []
    speed = measure_speed(
        ScriptToRun(Target(str(script), arguments)), 0.5, on_step_time=lambda step, seconds: steps.append(step)
    )
    return speed, steps


def test_script_is_measured_again_without_the_change_that_it_fails_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    speed, steps = speed_of(tmp_path, SCRIPT, "1000000")
    assert speed.ended == "" and speed.errors == () and [speed.step] == steps
    step = speed.step
    assert step.rows == 32 and step.samples == 32 and step.tokens == 0 and step.workers is None
    assert 0 < step.phases["forward"] < step.seconds and step.phases["data"] == 0
    assert sum(share for _, share in step.lines) == pytest.approx(1)
    assert {line.place.rpartition(":")[0] for line, _ in step.lines if line.place} == {"train.py"}
    tried = {each.name: each for each in speed.tried}
    assert "float32 only" in tried["bf16"].error and tried["bf16"].ratio is None
    fused = tried["fused"].ratio
    assert fused is not None and fused.n_rounds > 0 and not tried["fused"].error
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["import torch\nraise ValueError", SCRIPT])
def test_script_that_makes_too_few_steps_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        speed_of(tmp_path, text, "3")
    assert caught.value.problems[0].code == "user_code"


class Ending:
    """A process of the script, which ends as the test says."""

    def __init__(self, turn: str, error: str, n_steps: int) -> None:
        self.ended = {"error": error, "lacks": None, "file": ""}
        self.code = 1
        self._records: list[dict[str, Any]] = [{"turn": turn}, {"n_steps": n_steps}]

    def records(self) -> Iterator[dict[str, Any]]:
        parts = {"n_steps": 5, "phases": {"loop": 1.0}, "lines": [], "size": asdict(Size()), "device": "cpu"}
        yield {"parts": parts | {"threads": 1, "workers": None, "model": "", "optimizers": []}}
        changes = {name: {"text": name, "code": name} for name in ("bf16", "fused")}
        yield {"changes": changes, "refused": {}, "seconds": 1.0}
        yield from self._records


@pytest.mark.parametrize(
    ("endings", "errors", "ended"),
    [
        ([("bf16", "A", 30), ("fused", "A", 30)], ["", ""], "A"),
        ([("bf16", "A", 30), ("fused", "B", 40), ("", "", 50)], ["A", "B"], "it made only 50 steps"),
        ([("bf16", "A", 30), ("", "A", 31)], ["A", ""], "A"),
    ],
)
def test_error_of_the_script_itself_is_not_that_of_a_change(
    endings: list[tuple[str, str, int]], errors: list[str], ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = iter(endings)
    monkeypatch.setattr(script_speed, "TriedRun", lambda *arguments: Ending(*next(processes)))
    speed = measure_speed(ScriptToRun(Target("train.py")))
    assert [tried.error for tried in speed.tried] == errors and speed.ended == ended
    assert next(processes, None) is None and speed.has_failed == (ended == "A")


def test_rounds_of_a_further_process_are_compared_with_its_own_blocks() -> None:
    written = script_speed._Written()
    for _ in range(2):
        written.begin_process()
        for number in (0, 1):
            written.add({"block": {"change": AS_IT_IS, "round": number, "n_steps": 2, "seconds": 1.0}})
    assert [block.round for block in written.blocks] == [0, 1, 3, 4]
