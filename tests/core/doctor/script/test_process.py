"""The script of a recorded run is found again, or what is missing is named."""

from pathlib import Path

import pytest

from tui_lab.core.config.script import ScriptConfig, ScriptTrainConfig
from tui_lab.core.doctor.script.process import examine_run
from tui_lab.core.watch.process.recorded_script import target_of
from tui_lab.util.errors import ConfigError


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("train.py", "--lr", "1"), ("train.py", "--lr", "1")),
        (("-m", "package.train", "-m"), ("-m", "package.train", "-m")),
    ],
)
def test_recorded_command_is_that_of_the_script(command: tuple[str, ...], words: tuple[str, ...]) -> None:
    target = target_of(command)
    assert target.python_arguments == words and target.is_module == (command[0] == "-m")


@pytest.mark.parametrize(
    ("command", "folder", "code"),
    [
        ((), ".", "missing"),
        (("/x/ipykernel_launcher.py", "-f"), ".", "missing"),
        (("train.py",), ".", "not_found"),
        (("-m", "train"), "none", "not_found"),
    ],
)
def test_run_without_its_script_cannot_be_examined(
    command: tuple[str, ...], folder: str, code: str, tmp_path: Path
) -> None:
    config = ScriptConfig(command=command, folder=str(tmp_path / folder))
    with pytest.raises(ConfigError) as caught:
        examine_run(config, lambda check: None)
    assert caught.value.problems[0].code == code


@pytest.mark.slow
def test_script_of_a_run_is_examined_in_its_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings.py").write_text("rate = 0.1\n", "utf-8")
    (tmp_path / "train.py").write_text(
        "import os, torch, settings\n"
        "print(os.getcwd())\n"
        "model = torch.nn.Linear(3, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=settings.rate)\n"
        "for _ in range(5):\n"
        "    optimizer.zero_grad()\n"
        "    model(torch.randn(4, 3)).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        "utf-8",
    )
    stages: list[str] = []
    report = examine_run(ScriptConfig(command=("train.py",), folder=str(tmp_path)), stages.append)
    assert report.findings == () and "5 updates" in report.examined[0]
    assert "running the script" in stages and capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_script_of_several_processes_is_examined_in_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "torch.distributed.init_process_group('gloo')\n"
        "model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for _ in range(5):\n"
        "    optimizer.zero_grad()\n"
        "    model(torch.randn(4, 3)).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        "utf-8",
    )
    config = ScriptConfig(command=("train.py",), folder=str(tmp_path), train=ScriptTrainConfig(processes=2))
    report = examine_run(config, lambda check: None)
    assert report.findings == () and "5 updates" in report.examined[0]
