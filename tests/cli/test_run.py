"""`tui-lab run`: output, exit codes and what is left on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CliError, RunCli
from tests.core.tiny import tiny
from tests.process import TINY
from tui_lab.cli.run import train
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.util.exit_codes import INTERRUPTED


def objects(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_json_is_one_object_per_line_with_the_summary_last(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("run", "reverse", *TINY, "--steps", "3", "--json", "--out", "r")
    records = objects(done.out)
    assert done.code == 0 and done.err == ""
    kinds = ["started", "step", "step", "step", "evaluated", "saved", "stopped", "summary"]
    assert [record["event"] for record in records] == kinds
    assert records[-1]["steps"] == 3 and records[-1]["unmet"] == []
    logged = objects((tmp_path / "r" / "events.jsonl").read_text("utf-8"))
    assert logged == records[:-1], "the event log holds the events that were printed"


def test_results_go_to_stdout_and_progress_to_stderr(run_cli: RunCli) -> None:
    result = run_cli("run", "reverse", *TINY, "--steps", "3")
    assert "exact match" in result.out and "step 3" in result.err and "step 3" not in result.out
    [train_loss] = [line for line in result.out.splitlines() if line.startswith("train loss")]
    assert "mean" in train_loss, "it is not that of the last step"
    assert run_cli("run", "reverse", *TINY, "--steps", "3", "--quiet").err == ""


@pytest.mark.parametrize(
    ("bound", "code", "mark"), [("train_loss<=1e9", 0, "✓"), ("train_loss<0", 1, "✗"), ("perplexity>0", 1, "✗")]
)
def test_requirements_decide_the_exit_code(bound: str, code: int, mark: str, run_cli: RunCli) -> None:
    result = run_cli("run", "reverse", *TINY, "--steps", "2", "--require", bound)
    assert result.code == code
    assert [line[0] for line in result.err.splitlines() if line[0] in "✓✗"] == [mark]


def test_requirement_relative_to_a_baseline(run_cli: RunCli, cli_error: CliError) -> None:
    """The same settings and seed give the same loss; a bound below it is not met."""
    command = ("run", "reverse", *TINY, "--steps", "2")
    assert run_cli(*command, "--out", "base").code == 0
    required = (*command, "--baseline", "base", "--require")
    assert run_cli(*required, "val_loss<=baseline").code == 0
    unmet = run_cli(*required, "val_loss <= baseline - 0.5", "--json")
    assert unmet.code == 1 and len(objects(unmet.out)[-1]["unmet"]) == 1
    for arguments, code, key in (
        ((*command, "--require", "val_loss<=baseline"), "missing", "--require"),
        ((*required, "val_loss<=1"), "missing", "--baseline"),
        ((*required, "perplexity<=baseline"), "unavailable", "--baseline"),
        ((*required, "val_loss<=baseline", "--set", "data.n_digits=4"), "conflict", "--baseline"),
        ((*required, "val_loss<=baseline+much"), "invalid", "--require"),
        ((*command, "--require", "val_loss<=baseline", "--baseline", "bas"), "unknown_name", ""),
    ):
        problem = cli_error(*arguments).problems[0]
        assert (problem.code, problem.key) == (code, key)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run"], "missing"),
        (["run", "reverse", "--resume", "x"], "conflict"),
        (["run", "--resume", "x", "--out", "y"], "conflict"),
        (["app", "reverse", "--resume", "x"], "conflict"),
        (["app", "--resume", "x", "--set", "optim.lr=1"], "conflict"),
    ],
)
def test_bad_usage_has_a_code(arguments: list[str], code: str, cli_error: CliError) -> None:
    assert cli_error(*arguments).code == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "reverse", "--set", "optim.lrr=1"], "did you mean 'optim.lr'?"),
        (["run", "revers"], "did you mean 'reverse'?"),
        (["run", "--resume", "nothing"], "nothing"),
        (["run", "reverse", "--require", "loss<1"], "val_loss"),
        (["run", "reverse", "--set", "train.batch_size=1000000"], "train.batch_size"),
        (["run", "socrates", "--set", "data.path=nowhere.txt"], "nowhere.txt"),
        (["run", "reverse", "--frobnicate"], "--frobnicate"),
        (["generate", "nothing", "--prompt", "a"], "nothing"),
        (["config", "show", "revers"], "did you mean 'reverse'?"),
        (["batch", "reverse", "--step", "-1"], "--step"),
    ],
)
def test_bad_usage_is_exit_2_and_leaves_nothing_behind(
    arguments: list[str], words: str, run_cli: RunCli, tmp_path: Path
) -> None:
    result = run_cli(*arguments)
    assert result.code == 2 and result.out == "" and words in result.err
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_is_not_finite_is_exit_3_and_keeps_a_checkpoint(run_cli: RunCli, tmp_path: Path) -> None:
    fault = ("--set", 'faults=["not_finite"]')
    result = run_cli("run", "reverse", *TINY, *fault, "--steps", "200", "--out", "r")
    assert result.code == 3 and "training failed: " in result.err and "not finite" in result.err
    assert list((tmp_path / "r" / "checkpoints").glob("step-*/model.safetensors"))


def test_resume_with_more_steps_continues_after_the_end(run_cli: RunCli) -> None:
    run_cli("run", "reverse", *TINY, "--steps", "2", "--out", "r", "--quiet")
    result = run_cli("run", "--resume", "r", "--steps", "5", "--json")
    assert [record["step"] for record in objects(result.out) if record["event"] == "step"] == [3, 4, 5]
    assert run_cli("run", "--resume", "r", "--steps", "4").code == 2
    again = run_cli("run", "--resume", "r")
    assert again.code == 0 and "nothing was trained" in again.err and "--steps N" in again.err


def test_generate_takes_the_best_weights_of_a_run_that_stops_early(run_cli: RunCli, tmp_path: Path) -> None:
    early = ("--set", "optim.lr=100", "--set", "train.eval_every=1", "--set", "train.patience=2")
    assert run_cli("run", "reverse", *TINY, *early, "--steps", "50", "--out", "early", "--quiet").code == 0
    generate = ("generate", "early", "--prompt", "123", "--max-new-tokens", "3", "--json")
    summary = Run(tmp_path / "early").summary()
    assert summary is not None and summary.best_step is not None and summary.best_step < summary.steps
    best, last = run_cli(*generate), run_cli(*generate, "--weights", "last")
    assert "best" in best.err and "last" in last.err and last.out != best.out
    assert [record["event"] for record in objects(best.out)] == ["token"] * 3 + ["text"]
    exact, rounded = (run_cli(*generate, "--precision", precision).out for precision in ("fp32", "bf16"))
    assert exact == best.out and rounded != exact
    probabilities = [[record["probability"] for record in objects(out)[:3]] for out in (exact, rounded)]
    assert probabilities[1] == pytest.approx(probabilities[0], rel=0.1)


@pytest.mark.parametrize("steps", [0, 1])
def test_run_that_is_stopped_before_its_first_step_says_so(
    steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_run.start("tiny", tiny("train.steps=2"), tmp_path / "run")
    control = opened.trainer.control
    if steps:
        monkeypatch.setattr(control, "count_step", control.request_stop)
    else:
        control.request_stop()
    assert train(opened, (), json_lines=False, quiet=False) == INTERRUPTED
    assert ("first step" in capsys.readouterr().err) == (not steps)
