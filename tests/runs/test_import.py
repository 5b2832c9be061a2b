"""`tui-lab runs import`: the run folder it writes, and what other commands say of it."""

import json
import os
from pathlib import Path

import pytest

from tests.command_line import CliError, RunCli
from tests.core.recorded import STARTED, recorded, recorded_script, update
from tests.core.runs.importing.reading import SAMPLES, written
from tui_lab.core.config.script import ImportedConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import find_runs, write_notes

CSV = "step,loss,val_loss,lr\n1,2.0,,0.1\n2,1.5,1.75,0.1\n3,1.25,1.5,0.05\n"


@pytest.fixture
def imported(run_cli: RunCli, tmp_path: Path) -> Path:
    run_cli("runs", "import", written(tmp_path / "old.csv", CSV))
    return runs.runs_folder() / "old"


def test_run_says_what_it_was_imported_from(run_cli: RunCli, tmp_path: Path, imported: Path) -> None:
    config = runs.Run(imported).config()
    assert isinstance(config, ImportedConfig)
    assert (config.source.path, config.source.format) == (str(tmp_path / "old.csv"), "csv")
    assert config.source.columns["train_loss"] == "loss" and len(config.source.sha256) == 64
    [row] = json.loads(run_cli("runs", "ls", "--where", "kind=imported", "--json").out)
    assert (row["state"], row["steps"], row["val_loss"], row["parameters"]) == ("imported", 3, 1.5, None)
    shown = json.loads(run_cli("runs", "show", "old", "--json").out)
    assert shown["config"]["source"]["format"] == "csv" and shown["tokens_per_s"] is None
    assert str(tmp_path / "old.csv") in run_cli("runs", "show", "old").out


def test_state_of_a_trainer_is_the_same_curve_as_the_run_that_it_is_of(run_cli: RunCli, tmp_path: Path) -> None:
    losses = [4.0 / step for step in range(1, 21)]
    own = recorded_script(tmp_path / "own", events=[STARTED, *(update(i, loss) for i, loss in enumerate(losses, 1))])
    history = [{"step": end, "loss": sum(losses[end - 5 : end]) / 5} for end in (5, 10, 15, 20)]
    run_cli("runs", "import", written(tmp_path / "trainer_state.json", json.dumps({"log_history": history})))
    [imported] = [row.path for row in find_runs(runs.runs_folder())]
    for names in ((own.path, imported), (imported, own.path)):
        [comparison] = json.loads(run_cli("runs", "compare", *names, "--json").out)["comparisons"]
        parting = comparison["parting"]
        assert (parting["n_common"], parting["first_difference"]) == (4, None)


def test_result_as_json(run_cli: RunCli, tmp_path: Path) -> None:
    result = json.loads(run_cli("runs", "import", written(tmp_path / "old.csv", CSV), "--name", "a b", "--json").out)
    [run] = result["runs"]
    assert (run["name"], run["format"], run["steps"], run["evaluations"]) == ("a-b", "csv", 3, 2)
    assert run["columns"] == {"step": "step", "train_loss": "loss", "val_loss": "val_loss", "lr": "lr"}
    assert result["skipped"] == []


def test_second_import_is_refused_unless_it_replaces(
    run_cli: RunCli, cli_error: CliError, tmp_path: Path, imported: Path
) -> None:
    write_notes(imported, ["keep"], "mine")
    assert cli_error("runs", "import", tmp_path / "old.csv").code == "exists"
    written(tmp_path / "old.csv", CSV + "4,1.0,,0.05\n")
    assert cli_error("runs", "import", tmp_path / "old.csv").code == "exists"
    run_cli("runs", "import", tmp_path / "old.csv", "--replace")
    shown = json.loads(run_cli("runs", "show", "old", "--json").out)
    assert (shown["steps"], shown["tags"], shown["note"]) == (4, ["keep"], "mine")
    assert sorted(path.name for path in runs.runs_folder().iterdir()) == ["old"]


def test_run_that_was_trained_is_never_replaced(cli_error: CliError, tmp_path: Path) -> None:
    run = recorded(runs.runs_folder() / "old")
    before = (run.path / "events.jsonl").read_bytes()
    path = written(tmp_path / "old.csv", CSV)
    assert cli_error("runs", "import", path, "--replace").code == "exists"
    assert (run.path / "events.jsonl").read_bytes() == before


def test_damage_leaves_nothing_behind(cli_error: CliError, tmp_path: Path) -> None:
    path = written(tmp_path / "old.csv", CSV + "2,1.0,,\n")
    assert cli_error("runs", "import", path).code == "invalid"
    assert list(runs.runs_folder().iterdir()) == []


def test_folder_with_several_runs(run_cli: RunCli, tmp_path: Path) -> None:
    for name, text in {"a.csv": CSV, "b.csv": CSV, "c.csv": "x,y\n1,2\n"}.items():
        written(tmp_path / name, text)
    result = run_cli("runs", "import", tmp_path, "--format", "csv", "--out", tmp_path / "imported")
    assert result.out.split() == [str(tmp_path / "imported" / name) for name in ("a", "b")]
    assert "c.csv" in result.err
    second = run_cli("runs", "import", tmp_path / "a.csv", "--name", "other", "--json")
    assert json.loads(second.out)["runs"][0]["name"] == "other"


def test_folder_with_two_formats_needs_one(cli_error: CliError) -> None:
    error = cli_error("runs", "import", SAMPLES / "huggingface")
    assert (error.code, error.problems[0].key) == ("invalid", "PATH")


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("nowhere.csv",), {"code": "not_found", "key": "PATH"}),
        (("old.txt",), {"code": "invalid", "key": "PATH"}),
        (("old.csv", "--format", "cvs"), {"code": "unknown_name", "suggestion": "csv"}),
        (("old.csv", "--column", "loss"), {"code": "invalid", "key": "--column"}),
        (("old.csv", "--column", "trainloss=loss"), {"code": "unknown_name", "suggestion": "train_loss"}),
        (("old.csv", "--format", "trainer-state"), {"code": "unreadable"}),
        (("old.txt", "--format", "trainer-state", "--number-rows"), {"code": "conflict", "key": "--number-rows"}),
    ],
)
def test_wrong_options(cli_error: CliError, tmp_path: Path, arguments: tuple[str, ...], fields: dict[str, str]) -> None:
    written(tmp_path / "old.csv", CSV)
    written(tmp_path / "old.txt", CSV)
    problem = cli_error("runs", "import", *arguments).problems[0]
    assert {name: getattr(problem, name) for name in fields} == fields


@pytest.mark.parametrize(
    "command",
    [("generate", "old", "--prompt", "12"), ("doctor", "old"), ("explain", "old"), ("examples", "old"),
     ("run", "--resume", "old"), ("runs", "trace", "old"), ("memory", "old"), ("lr-find", "old")],
)  # fmt: skip
def test_commands_that_need_a_model_say_that_there_is_none(
    cli_error: CliError, imported: Path, command: tuple[str, ...]
) -> None:
    error = cli_error(*command)
    assert error.code == "unavailable"


def test_compared_with_a_native_run(run_cli: RunCli, imported: Path) -> None:
    recorded(runs.runs_folder() / "new")
    result = json.loads(run_cli("runs", "compare", "old", "new", "--json").out)
    [comparison] = result["comparisons"]
    assert comparison["problem"] is None and comparison["metric"] == "val_loss"
    # The log has neither tokens nor times.
    assert {at["axis"] for at in comparison["verdicts"]} <= {"steps"}


def test_of_several_losses_of_evaluations_the_user_chooses_one(run_cli: RunCli, tmp_path: Path) -> None:
    path = written(tmp_path / "old.csv", "step,loss,eval_a_loss,eval_b_loss\n1,2.0,2.5,3.0\n")
    assert "--column val_loss=eval_a_loss" in run_cli("runs", "import", path).err
    run_cli("runs", "import", path, "--column", "val_loss=eval_b_loss", "--replace")
    assert json.loads(run_cli("runs", "show", "old", "--json").out)["val_loss"] == 3.0


def test_date_is_that_of_the_log(run_cli: RunCli, tmp_path: Path) -> None:
    path = written(tmp_path / "old.csv", CSV)
    os.utime(path, (1.6e9, 1.6e9))
    run_cli("runs", "import", path)
    [row] = json.loads(run_cli("runs", "ls", "--json").out)
    assert row["created"] == 1.6e9
