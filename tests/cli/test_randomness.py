"""`tui-lab randomness` on the command line: of a config, and of scripts that are simulated."""

import json
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.core.watch.randomness.simulated import OWN_GENERATOR, TIME, Simulated
from tests.process import TINY
from tui_lab.cli import randomness
from tui_lab.core.watch.randomness.sources import HASHES, NUMPY, PYTHON, TORCH, ScriptSource, SeedCall
from tui_lab.core.watch.randomness.traced_runs import TracedRun
from tui_lab.core.watch.randomness.verdict import KERNELS, RandomnessVerdict
from tui_lab.text.randomness_text import seed_text, verdict_lines


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    path = tmp_path / "train.py"
    path.write_text("raise SystemExit(9)", "utf-8")
    return path


def simulate(monkeypatch: pytest.MonkeyPatch, script: Simulated) -> None:
    monkeypatch.setattr(randomness, "ScriptTracer", lambda *arguments: script)


def test_randomness_lists_every_source_and_pins_them(run_cli: RunCli, tmp_path: Path) -> None:
    listed = json.loads(run_cli("randomness", "reverse", *TINY[:-2], "--step", "3", "--json").out)
    free = [source["name"] for source in listed["sources"] if not source["pinned"]]
    assert listed["step"] == 3 and free == ["threads"]
    (tmp_path / "pinned.toml").write_text(run_cli("randomness", "reverse", *TINY[:-2], "--pin").out, "utf-8")
    pinned = json.loads(run_cli("randomness", "pinned.toml", "--json").out)
    assert all(source["pinned"] for source in pinned["sources"])
    assert "initialization" in run_cli("randomness", "reverse", *TINY).out


def test_a_script_whose_runs_are_the_same_is_exit_0(
    script: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, Simulated(fixed=[TORCH], weights=[TORCH]))
    done = run_cli("randomness", script, "--", "--lr=1")
    assert done.code == 0 and "cause" not in done.out
    assert json.loads(run_cli("randomness", script, "--json").out)["reproducible"]


def test_runs_that_could_not_be_compared_in_full_are_exit_4(
    script: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, Simulated(problem="loss: RuntimeError"))
    done = run_cli("randomness", script)
    assert done.code == 4 and "RuntimeError" in done.out


@pytest.mark.parametrize("key", [PYTHON, NUMPY, TORCH, HASHES, OWN_GENERATOR.key, TIME, KERNELS])
def test_each_cause_is_named_and_is_exit_1(
    key: str, script: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, Simulated(batch=[key]))
    done = run_cli("randomness", script)
    assert done.code == 1 and done.out.count("cause: ") == 1
    result = json.loads(run_cli("randomness", script, "--json").out)
    assert (result["causes"], result["first_difference"]["kind"]) == ([key], "batch")


def test_sentences_are_wrapped_and_runs_are_named_on_stderr(
    script: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    simulate(monkeypatch, Simulated(batch=[TIME]))
    done = run_cli("randomness", script)
    assert max(map(len, done.out.splitlines())) <= 60
    assert done.err.count(": run ") >= 5 and ": run " not in done.out
    assert run_cli("randomness", script, "--json").err == ""


def test_files_that_a_later_run_may_read_are_named_by_kind() -> None:
    run = TracedRun([], [], written=["cache.bin"], changed=["count.txt"])
    _, made, changed = verdict_lines("train.py", RandomnessVerdict(run, 0, None, []))
    assert "cache.bin" in made and "count.txt" not in made
    assert "count.txt" in changed and "without the files" not in changed


def test_a_seed_that_the_system_draws_is_not_shown_as_an_argument() -> None:
    source = ScriptSource(TORCH, seeds=(SeedCall("torch.seed", "train.py, line 6", "130", is_given=False),))
    text = seed_text(source, RandomnessVerdict(TracedRun([], []), 0, None, [source]))
    assert "torch.seed()" in text and "130" in text


@pytest.mark.parametrize(
    ("simulated", "n_causes"),
    [(Simulated(loss=["clock"]), 0), (Simulated(weights=[TORCH], update=["clock"]), 1)],
)
def test_what_no_seed_changes_is_said(
    simulated: Simulated, n_causes: int, script: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, simulated)
    done = run_cli("randomness", script)
    assert done.code == 1 and done.out.count("cause: ") == n_causes and "tested" not in done.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "name a PRESET, CONFIG, RUN or SCRIPT.py"),
        (["train.py", "--pin"], "--pin"),
        (["train.py", "--set", "optim.lr=1"], "--set"),
        (["train.py", "--step", "2"], "--step"),
        (["reverse", "--steps", "2"], "--steps"),
        (["train.py", "--lr=1"], "randomness train.py -- "),
        (["revers"], "did you mean 'reverse'?"),
        (["train"], "did you mean 'train.py'?"),
        (["train.py"], "ended with exit code 9"),
    ],
)
def test_errors_name_what_is_wrong(arguments: list[str], text: str, script: Path, run_cli: RunCli) -> None:
    done = run_cli("randomness", *arguments)
    assert done.code == 2 and done.out == "" and text in done.err
