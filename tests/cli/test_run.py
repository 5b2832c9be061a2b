import json
from pathlib import Path
from typing import Any

import pytest

from tests.process import TINY, Cli


def objects(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_json_is_one_object_a_line_and_the_summary_last(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "reverse", *TINY, "--steps", "3", "--json", "--out", "r")
    found = objects(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert [record["event"] for record in found] == [
        "started", "step", "step", "step", "evaluated", "saved", "stopped", "summary",
    ]  # fmt: skip
    assert found[-1]["steps"] == 3 and found[-1]["unmet"] == []
    kept = objects((tmp_path / "r" / "events.jsonl").read_text("utf-8"))
    assert kept == found[:-1], "the run folder holds the events that were shown"


def test_product_on_stdout_and_diagnostics_on_stderr(cli: Cli) -> None:
    done = cli("run", "reverse", *TINY, "--steps", "3")
    assert "exact match" in done.stdout and "step 3" in done.stderr and "step 3" not in done.stdout
    assert cli("run", "reverse", *TINY, "--steps", "3", "--quiet").stderr == ""


@pytest.mark.parametrize(("bound", "code"), [("train_loss<=1e9", 0), ("train_loss<0", 1), ("perplexity>0", 1)])
def test_requirements_decide_the_exit_code(bound: str, code: int, cli: Cli) -> None:
    done = cli("run", "reverse", *TINY, "--steps", "2", "--require", bound)
    assert done.returncode == code and (f"required {bound}" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "reverse", "--set", "optim.lrr=1"], "tui-lab: optim.lrr: unknown key; did you mean optim.lr?"),
        (["run", "revers"], "did you mean reverse?"),
        (["run"], "give either a PRESET or CONFIG"),
        (["run", "reverse", "--resume", "x"], "give either a PRESET or CONFIG"),
        (["run", "--resume", "nothing"], "'nothing': not a run"),
        (["run", "reverse", "--require", "loss<1"], "unknown metric loss"),
        (["run", "reverse", "--set", "train.batch_size=1000000"], "the training part has"),
        (["run", "socrates", "--set", "data.path=nowhere.txt"], "no such file, folder or glob"),
        (["run", "reverse", "--frobnicate"], "No such option"),
        (["generate", "nothing", "--prompt", "a"], "'nothing': not a run"),
        (["config", "show", "revers"], "did you mean reverse?"),
        (["batch", "reverse", "--step", "-1"], "'--step'"),
    ],
)
def test_bad_usage_is_exit_2_with_words_and_no_traceback(arguments: list[str], words: str, cli: Cli) -> None:
    done = cli(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and "Traceback" not in done.stderr


def test_bad_usage_leaves_no_run_behind(cli: Cli, tmp_path: Path) -> None:
    cli("run", "reverse", "--set", "train.batch_size=1000000", "--out", "r")
    assert not (tmp_path / "r").exists() and not (tmp_path / "runs").exists()


def test_a_loss_that_is_not_finite_is_exit_3_with_the_state_kept(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "socrates", "--set", "optim.name=sgd", "--set", "optim.lr=100", "--set", "optim.grad_clip=0",
               "--set", "model.d_model=8", "--set", "optim.warmup_steps=0", "--set", "train.eval_examples=1",
               "--steps", "200", "--out", "r")  # fmt: skip
    assert done.returncode == 3 and "training failed: " in done.stderr and "not finite" in done.stderr
    assert list((tmp_path / "r" / "checkpoints").glob("step-*/model.safetensors"))


def test_steps_go_on_after_the_end(cli: Cli) -> None:
    cli("run", "reverse", *TINY, "--steps", "2", "--out", "r", "--quiet")
    done = cli("run", "--resume", "r", "--steps", "5", "--json")
    steps = [record["step"] for record in objects(done.stdout) if record["event"] == "step"]
    assert steps == [3, 4, 5]
    assert cli("run", "--resume", "r", "--steps", "4").returncode == 2


def test_generate_says_which_weights_speak_and_takes_the_best_where_a_run_stops_early(cli: Cli) -> None:
    early = ("--set", "optim.lr=100", "--set", "train.eval_every=1", "--set", "train.patience=2")
    assert cli("run", "reverse", *TINY, *early, "--steps", "50", "--out", "early", "--quiet").returncode == 0
    told = cli("generate", "early", "--prompt", "123", "--max-new-tokens", "3", "--json")
    assert "early: the best weights, of step" in told.stderr and "--weights last" in told.stderr
    assert [json.loads(line)["event"] for line in told.stdout.splitlines()] == ["token"] * 3 + ["text"]
    last = cli("generate", "early", "--prompt", "123", "--max-new-tokens", "3", "--json", "--weights", "last")
    assert "early: the last weights, of step" in last.stderr and last.stdout != told.stdout
