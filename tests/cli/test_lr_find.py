"""`tui-lab lr-find`: what it prints, and its exit codes."""

import json
import math
import os
import subprocess
from collections.abc import Generator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from tests.command_line import CliError, RunCli
from tests.core.tiny import tiny
from tui_lab.cli.lr_find import find
from tui_lab.cli.lr_find_progress import ChartProgress
from tui_lab.cli.lr_find_subjects import Subject
from tui_lab.core.config import settings
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.training.range_points import RangePoints, RatePoint, rates_between
from tui_lab.data.tokenizers import IdTokenizer
from tui_lab.text.rate_text import RangeCurve, progress_line, waiting_line
from tui_lab.util.child import child_environment, python_module


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(settings.to_toml(tiny("optim.name=adamw", "train.batch_size=16")), "utf-8")
    return path


def test_result_has_each_rule_with_its_source_and_the_command_to_train_with(config_file: Path, run_cli: RunCli) -> None:
    result = run_cli("lr-find", config_file, "--low", "1e-4", "--high", "0.5", "--rates", "60")
    assert result.code == 0
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["steepest", "minimum", "valley", "slide"]
    assert all("(" in line for line in lines[:4])
    rate = lines[0].split()[1]
    assert lines[-1].endswith(f"tui-lab run {config_file} --set optim.lr={rate}")
    assert "adamw" in result.err  # The limits of the test.


def test_json_has_a_line_per_rate_and_the_whole_curve_at_the_end(config_file: Path, run_cli: RunCli) -> None:
    result = run_cli(
        "lr-find", config_file, "--low", "1e-4", "--high", "0.5", "--rates", "40", "--seeds", "2", "--json"
    )
    lines = [json.loads(line) for line in result.out.splitlines()]
    points, end = lines[:-1], lines[-1]
    assert {point["event"] for point in points} == {"rate"} and end["event"] == "result"
    for seed, test in enumerate(end["tests"]):
        assert test["losses"] == [point["loss"] for point in points if point["seed"] == seed]
        assert len(test["rates"]) == len(test["losses"]) == len(test["smoothed"])
    by_rule = end["suggestions"]
    assert end["lr"] == by_rule[end["rule"]]["lr"]
    assert all(one["low"] <= one["lr"] <= one["high"] for one in by_rule.values())


def test_quiet_prints_only_the_rate(config_file: Path, run_cli: RunCli) -> None:
    result = run_cli("lr-find", config_file, "--low", "1e-4", "--high", "0.5", "--rates", "40", "--quiet")
    assert 1e-4 <= float(result.out) <= 0.5 and result.err == ""


def test_saved_config_differs_only_in_its_rate(config_file: Path, run_cli: RunCli) -> None:
    out = config_file.with_name("found.toml")
    arguments = ("lr-find", config_file, "--low", "1e-4", "--high", "0.5", "--rates", "40", "--save", out)
    assert run_cli(*arguments).code == 0
    differing = settings.differences(settings.load(str(config_file)), settings.load(str(out)))
    assert list(differing) == ["optim.lr"]
    assert math.isclose(differing["optim.lr"], float(f"{differing['optim.lr']:.1e}"))
    assert run_cli(*arguments).code == 2  # The file exists.


def test_no_fall_of_the_loss_is_exit_code_1(config_file: Path, run_cli: RunCli) -> None:
    result = run_cli("lr-find", config_file, "--low", "1e-9", "--high", "1e-8", "--rates", "20")
    assert result.code == 1 and "tui-lab run" not in result.out


@pytest.mark.parametrize("bounds", [("1", "0.1"), ("0", "0.1"), ("0.1", "1000")])
def test_range_must_rise_within_the_bounds_of_the_setting(
    bounds: tuple[str, str], config_file: Path, cli_error: CliError
) -> None:
    low, high = bounds
    error = cli_error("lr-find", config_file, "--low", low, "--high", high)
    assert error.code == "invalid"


def test_unknown_source_names_the_presets(cli_error: CliError) -> None:
    assert cli_error("lr-find", "revers").problems[0].suggestion == "reverse"


@pytest.mark.parametrize("options", [("--set", "optim.name=sgd"), ("--initial",), ("--save", "found.toml")])
def test_script_has_no_settings(options: tuple[str, ...], tmp_path: Path, cli_error: CliError) -> None:
    script = tmp_path / "train.py"
    script.touch()
    error = cli_error("lr-find", script, *options)
    assert (error.code, error.problems[0].key) == ("conflict", options[0])


def test_run_of_a_notebook_has_no_script(tmp_path: Path, cli_error: CliError) -> None:
    run = runs.create("cells", ScriptConfig(), IdTokenizer(0), tmp_path / "run")
    assert cli_error("lr-find", run.path).code == "missing"


def test_name_without_its_ending_suggests_the_script(
    tmp_path: Path, cli_error: CliError, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").touch()
    monkeypatch.chdir(tmp_path)
    assert cli_error("lr-find", "train").problems[0].suggestion == "train.py"


@pytest.mark.slow
def test_terminated_command_ends_the_script(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n", "utf-8"
    )
    process = subprocess.Popen(python_module("tui_lab", "lr-find", str(script)), env=child_environment())
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text("utf-8")):
        assert process.poll() is None
    process.terminate()
    process.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text("utf-8")), 0)


def test_terminal_shows_that_a_test_has_no_point_yet_and_keeps_the_chart_of_the_one_before() -> None:
    screen = StringIO()
    terminal = Console(file=screen, force_terminal=True, color_system=None, width=80, height=24)
    curve = RangeCurve(0, 1e-3, 1e-1, [1e-3, 1e-2], [3.0, 2.0])
    with Live(console=terminal, auto_refresh=False) as live:
        chart = ChartProgress(live, 2)
        chart.begin([])
        assert waiting_line(0) in screen.getvalue()
        chart.add([curve])
        chart.draw()
        assert progress_line(curve, 2) in screen.getvalue()
        screen.seek(screen.truncate(0))
        chart.begin([curve])
        assert waiting_line(0) in screen.getvalue() and "learning rate" in screen.getvalue()


class ShortScript(Subject):
    """Makes 20 updates, however many rates there are."""

    name = "short.py"
    first_seed = 0
    weights = "script"
    optimizer = "SGD"

    def __init__(self) -> None:
        self.n_rates = 30

    def prepare(self, *, silent: bool) -> None:
        pass

    def test(self, seed: int) -> RangePoints:
        return ShortTest(self.n_rates)

    def shorten(self, n_rates: int) -> None:
        self.n_rates = n_rates

    def save(self, path: Path, lr: float) -> None:
        raise NotImplementedError

    def next_step(self, lr: float) -> str:
        return ""


class ShortTest(RangePoints):
    def __init__(self, n_rates: int) -> None:
        super().__init__(1e-3, 1.0, n_rates)

    def run(self) -> Generator[RatePoint]:
        n = min(20, self.n_rates)
        for rate in rates_between(1e-3, 1.0, self.n_rates)[:n]:
            yield RatePoint(rate, 1.0)
        self.n_possible = n if n < self.n_rates else 0


def test_script_with_few_updates_is_tested_again_over_the_whole_range(capsys: pytest.CaptureFixture[str]) -> None:
    find(ShortScript(), 30, 2, None, as_json=True, quiet=False)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [len(test["rates"]) for test in result["tests"]] == [20, 20]
    assert all(test["rates"][-1] == pytest.approx(1.0) for test in result["tests"])
