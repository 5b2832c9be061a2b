"""`tui-lab runs`: list, show, compare, export, tag and delete, run in the test's process."""

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.command_line import CliError, RunCli
from tests.core.recorded import STARTED, evaluated, recorded, recorded_script, script_config, story, update
from tests.core.tiny import tiny, trainer_and_run
from tui_lab.core import events as ev
from tui_lab.core.config.script import ImportedConfig, SourceConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import write_notes
from tui_lab.core.runs.code import CodeFile, RecordedCode, write_code
from tui_lab.core.runs.run_files import LOCK
from tui_lab.core.runs.summary import summarize


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three runs in the runs folder, one of them a trial of a sweep: the first the oldest, the last the best."""
    root = runs.runs_folder()
    for age, (name, lr, loss) in enumerate([("b", 0.02, 2.0), ("sweep/trials/000", 0.1, 3.0), ("a", 0.001, 1.0)]):
        events = [STARTED, update(1, loss), *list(story())[-2:]]
        path = recorded(root / name, events, config=tiny(f"optim.lr={lr}")).path
        os.utime(path / "config.toml", (age + 1, age + 1))
    return root


def trained(path: Path, *overrides: str) -> Path:
    """A run with weights."""
    training, run = trainer_and_run(path, *overrides)
    run.write_summary(summarize(run.record(training.events())).summary(str(path)))
    return path


def names(run_cli: RunCli, *arguments: object) -> list[str]:
    return [row["name"] for row in json.loads(run_cli("runs", "ls", *arguments, "--json").out)]


def test_ls_sorts_and_filters(run_cli: RunCli, three: Path) -> None:
    assert names(run_cli) == ["a", "sweep/trials/000", "b"]
    assert names(run_cli, "--sort", "train_loss") == ["a", "b", "sweep/trials/000"]
    assert names(run_cli, "--sort", "-optim.lr") == ["sweep/trials/000", "b", "a"]
    assert names(run_cli, "--where", "optim.lr<0.05", "--where", "train_loss>1") == ["b"]
    assert names(run_cli, three / "sweep", "--where", "trials") == ["trials/000"]
    table = run_cli("runs", "ls").out
    assert [line.split()[0] for line in table.splitlines()] == ["run", "a", "sweep/trials/000", "b"]
    assert run_cli("runs", "ls", "--where", "optim.lr>1").out == f"no match among 3 runs in {three}\n"


@pytest.mark.parametrize("width", [60, 80, 110, 160])
def test_ls_cuts_no_column(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """What does not fit is left out; of a long name the end stays, which tells trials apart."""
    for name in ("sweep-20261126-182336/trials/0004-lr-0.003-seed-3", "b"):
        recorded(runs.runs_folder() / name, [STARTED, update(1, 2.0), *list(story())[-2:]], config=tiny())
    write_notes(runs.runs_folder() / "b", ["a-tag"], "a note")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run_cli("runs", "ls").out.splitlines()
    assert all(len(line.rstrip()) <= width for line in lines) and "…" not in lines[0]
    assert ("created" in lines[0]) == (width >= 80) and "state" in lines[0] and "val loss" in lines[0]
    assert any("seed-3 " in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("ls", "nowhere"), {"code": "not_found", "key": "nowhere"}),
        (("compare", "a"), {"key": "runs compare", "value": 1}),
        (("export", "a", "--to", "a.cvs"), {"key": "--to", "value": "a.cvs", "suggestion": ".csv"}),
        (("export", "a", "b", "--to", "x.tfevents"), {"code": "invalid", "key": "--to x.tfevents"}),
        (("export", "a", "b", "--to", "x.html"), {"code": "invalid", "key": "--to x.html"}),
        (("tag", "a", "--drop", "good"), {"code": "unknown_name", "key": "--drop", "value": "good"}),
        (("rm", "a"), {"code": "missing", "key": "runs rm"}),
    ],
)
def test_bad_usage_names_the_option(
    run_cli: RunCli, cli_error: CliError, three: Path, arguments: tuple[str, ...], fields: dict[str, Any]
) -> None:
    [problem] = cli_error("runs", *arguments).problems
    assert {name: getattr(problem, name) for name in fields} == fields
    assert len(names(run_cli)) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "--where", "lr<1"),
        ("ls", "--sort", "los"),
        ("show", "c"),
        ("tag", "a", "two words"),
        ("rm", "c", "--yes"),
    ],
)
def test_bad_usage_is_exit_2_without_output(run_cli: RunCli, three: Path, arguments: tuple[str, ...]) -> None:
    result = run_cli("runs", *arguments)
    assert result.code == 2 and result.err.startswith("tui-lab: ") and not result.out
    assert len(names(run_cli)) == 3


def test_show_has_settings_changes_tags_and_note(run_cli: RunCli, three: Path) -> None:
    list(runs.find("a").record([ev.Changed(step=8, key="optim.lr", old=0.001, new=0.0005)]))
    assert run_cli("runs", "tag", "a", "good", "keep").out == "good keep\n"
    assert run_cli("runs", "tag", "a", "--drop", "good").out == "keep\n"
    assert run_cli("runs", "note", "a", "the lowest loss").code == 0
    checkpoint_path = three / "a" / "checkpoints" / "step-00000008"
    checkpoint_path.mkdir(parents=True)
    (checkpoint_path / "model.safetensors").write_bytes(bytes(300_000))
    (checkpoint_path / "by-hand").touch()
    text = run_cli("runs", "show", "a").out
    assert re.search(r"^model\.d_model +8  \(default 64\)$", text, re.MULTILINE) and "optim.momentum" not in text
    assert re.search(r"^optim\.lr +0\.001 → 0\.0005 at 8  \(default 0\.\d+\)$", text, re.MULTILINE)
    assert re.search(r"^checkpoints +step 8 \(by hand\): 0\.3 MB$", text, re.MULTILINE)
    assert "step 8: optim.lr 0.001 → 0.0005" in text and "keep" in text and "the lowest loss" in text
    values = json.loads(run_cli("runs", "show", "a", "--json").out)
    assert values["tags"] == ["keep"] and values["note"] == "the lowest loss" and values["changed"][0]["new"] == 0.0005
    expected = {"path": str(checkpoint_path), "step": 8, "by_hand": True, "bytes": 300_000}
    assert values["checkpoints"] == [expected]
    assert "optim.lr" not in values["not_default"] and values["not_default"]["model.d_model"] == 8
    recorded(three / "chosen", config=tiny("train.matmul=blas", "train.head_rows=128"))
    assert "train.matmul" not in run_cli("runs", "show", "chosen").out, "the user has not set it"
    assert names(run_cli, "--where", "tag=keep") == ["a"] == names(run_cli, "--where", "note~LOWEST")
    assert "the lowest loss" in run_cli("runs", "ls").out


def test_control_characters_of_a_note_are_escaped(run_cli: RunCli, three: Path) -> None:
    write_notes(three / "a", [], "\x1b[2Jgone\u202e")
    for result in (run_cli("runs", "ls"), run_cli("runs", "show", "a")):
        assert "\x1b" not in result.out and "\u202e" not in result.out and r"\x1b[2Jgone\u202e" in result.out


def test_compare_shows_the_settings_that_differ(run_cli: RunCli, three: Path) -> None:
    comparison = json.loads(run_cli("runs", "compare", "a", "b", "sweep/trials/000", "--json").out)
    assert comparison["different"] == {"optim.lr": [0.001, 0.02, 0.1]}
    assert [row["name"] for row in comparison["runs"]] == ["a", "b", "000"]
    assert [row["train_loss"] for row in comparison["runs"]] == [1.0, 2.0, 3.0]
    text = run_cli("runs", "compare", "a", "b").out
    assert re.search(r"^optim\.lr +0\.001 +0\.02", text, re.MULTILINE) and "optim.momentum" not in text
    recorded(three / "same", config=tiny("optim.lr=0.001"))
    assert "optim.lr" not in run_cli("runs", "compare", "a", "same").out


def test_compare_shows_live_changes(run_cli: RunCli, tmp_path: Path) -> None:
    changed = ev.Changed(step=97, key="optim.lr", old=0.002, new=0.004)
    for name, events in (("steady", story()), ("steered", [*story(), changed])):
        recorded(tmp_path / name, events, config=tiny("optim.lr=0.002"))
    command = ("runs", "compare", tmp_path / "steady", tmp_path / "steered")
    comparison = json.loads(run_cli(*command, "--json").out)
    assert comparison["different"] == {}
    assert [change["new"] for change in comparison["changes"]["steered"]] == [0.004]
    text = run_cli(*command).out
    assert (
        re.search(r"^optim\.lr +0\.002 +0\.002 → 0\.004 at 97$", text, re.MULTILINE)
        and "same at the start; 1 live change" in text
    )


def test_compare_shows_the_code_that_differs(run_cli: RunCli, tmp_path: Path) -> None:
    for name, content in (("a", b"lr = 1\n"), ("b", b"lr = 2\n"), ("c", b"lr = 1\n")):
        run = recorded_script(tmp_path / name, config=script_config(seed=1)).path
        write_code(
            run, RecordedCode((CodeFile("train.py", str(content), len(content)),), "train.py"), {"train.py": content}
        )
    command = ("runs", "compare", tmp_path / "a", tmp_path / "b")
    [diff] = json.loads(run_cli(*command, "--json").out)["code"]
    assert diff["files"] == [{"path": "train.py", "change": "changed", "lines": 1}]
    text = run_cli(*command).out
    assert "train.py (1 line)" in text and "+lr = 2" not in text
    assert "+lr = 2" in run_cli(*command, "--code").out
    assert run_cli(*command, tmp_path / "c", "--code").out.endswith("\nc: the code is the same\n")
    shown = json.loads(run_cli("runs", "show", tmp_path / "a", "--json").out)
    assert shown["code"]["main"] == "train.py" and "train.py" in run_cli("runs", "show", tmp_path / "a").out


def test_compare_does_not_know_the_settings_of_an_import(run_cli: RunCli, tmp_path: Path) -> None:
    config = ImportedConfig(source=SourceConfig(path="my.csv", format="csv"))
    recorded_script(tmp_path / "other", config=config)
    recorded_script(tmp_path / "own")
    text = run_cli("runs", "compare", tmp_path / "other", tmp_path / "own").out
    assert "settings of other are not known" in text and "settings are the same" not in text


def test_compare_names_runs_by_as_many_folders_as_needed(run_cli: RunCli, tmp_path: Path) -> None:
    one, two = (recorded(tmp_path / place / "000").path for place in ("x", "y"))
    comparison = json.loads(run_cli("runs", "compare", one, two, one, "--json").out)
    assert [row["name"] for row in comparison["runs"]] == ["x/000", "y/000"]


def test_compare_prompts_every_run(run_cli: RunCli, tmp_path: Path) -> None:
    trained(tmp_path / "short", "train.steps=1")
    trained(tmp_path / "long", "train.steps=9")
    command = ("runs", "compare", tmp_path / "short", tmp_path / "long", "--prompt", "123", "--max-new-tokens", 4)
    comparison = json.loads(run_cli(*command, "--json").out)
    replies = comparison["replies"]
    assert replies.keys() == {"short", "long"} and all(len(reply) == 4 for [reply] in replies.values())
    assert comparison["different"] == {"train.steps": [1, 9]}
    shown = run_cli(*command).out.splitlines()[-1]
    assert all(reply in shown for [reply] in replies.values()) and shown.count("✗ expected 321") == 2
    several = json.loads(run_cli(*command[:-2], "--prompt", "xyz", "--prompt", "12", "--json").out)
    assert several["prompts"] == ["123", "xyz", "12"]
    for first, reason, last in several["replies"].values():
        assert (len(first), len(last)) == (3, 2), "as long as the answer"
        assert reason.startswith("("), "the reason, in parentheses"


def test_export_takes_the_format_from_the_suffix_or_option(run_cli: RunCli, three: Path, tmp_path: Path) -> None:
    assert run_cli("runs", "export", "a", "b", "--to", tmp_path / "x.csv").out == f"{tmp_path / 'x.csv'}\n"
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["run"] for row in csv.DictReader(stream)] == ["a", "b"]
    run_cli("runs", "export", "a", "--to", tmp_path / "x.txt", "--format", "json")
    assert json.loads((tmp_path / "x.txt").read_text("utf-8"))["runs"][0]["name"] == "a"
    run_cli("runs", "export", "a", "b", "--to", tmp_path / "logs", "--format", "tensorboard")
    assert sorted(path.parent.name for path in (tmp_path / "logs").glob("*/*tfevents*")) == ["a", "b"]


def test_export_never_replaces_a_file_of_a_run(cli_error: CliError, three: Path) -> None:
    before = (three / "a" / "summary.json").read_text("utf-8")
    assert cli_error("runs", "export", "b", "--to", three / "a" / "summary.json").code == "exists"
    assert (three / "a" / "summary.json").read_text("utf-8") == before


def test_rm_deletes_all_runs_or_none(run_cli: RunCli, cli_error: CliError, three: Path) -> None:
    (three / "link").symlink_to(three / "a")
    with FileLock(three / "b" / LOCK):
        cli_error("runs", "rm", "a", "b", "--yes")
    assert len(names(run_cli)) == 4
    cli_error("runs", "rm", three / "link", "--yes")
    result = run_cli("runs", "rm", "a", three / "b", "a", "--yes")
    assert result.code == 0 and len(result.out.splitlines()) == 2
    (three / "link").unlink()
    assert names(run_cli) == ["sweep/trials/000"]


def test_curves_are_drawn_into_one_picture(run_cli: RunCli, cli_error: CliError, three: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "x.svg") in run_cli("runs", "compare", "a", "b", "--curves", tmp_path / "x.svg").out
    svg = (tmp_path / "x.svg").read_text("utf-8")
    assert svg.count(">a<") >= 1 and svg.count(">b<") >= 1
    list(runs.find("a").record([evaluated(8, 0.75)]))
    run_cli("runs", "export", "a", "--to", tmp_path / "new" / "a.svg")
    assert "best 0.75 at 8" in (tmp_path / "new" / "a.svg").read_text("utf-8")
    run_cli("runs", "export", "a", "--to", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert cli_error("runs", "compare", "a", "b", "--curves", "x.gif").problems[0].key == "x.gif"
    recorded(three / "empty", [])
    cli_error("runs", "export", "empty", "--to", tmp_path / "e.svg")
    assert not (tmp_path / "e.svg").exists()


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Runs of scripts in every state in the runs folder, and one of our trainer; the order is that of their names."""
    root = runs.runs_folder()
    script_and_own_runs = [
        recorded_script(root / "a-done", config=script_config(learning_rate=0.5)),
        recorded_script(root / "b-failed", ending="failed", unit="samples"),
        recorded_script(root / "c-killed", ending="running"),
        recorded_script(root / "d-launched", started=False, ending="running"),
        recorded_script(root / "e-crashed", started=False, ending="failed"),
        recorded(root / "f-ours", config=tiny()),
    ]
    for age, run in enumerate(script_and_own_runs, 1):
        os.utime(run.path / "config.toml", (age, age))
    return root


def test_ls_shows_runs_of_scripts_and_our_own(run_cli: RunCli, scripts: Path) -> None:
    rows = json.loads(run_cli("runs", "ls", "--json").out)
    assert [row["state"] for row in rows] == ["done", "failed", "interrupted", "interrupted", "failed", "done"]
    assert [row["kind"] for row in rows] == ["trainer"] + ["script"] * 5
    assert [row["steps"] for row in rows] == [8, 0, 0, 8, 8, 8]
    assert names(run_cli, "--where", "settings.learning_rate>0.1") == ["a-done"]
    assert names(run_cli, "--where", "kind=script", "--sort", "-settings.learning_rate")[0] == "a-done"
    assert names(run_cli, "--where", "optim.lr=0.01") == ["f-ours", "c-killed", "b-failed", "a-done"]
    lines = run_cli("runs", "ls").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted((path.name for path in scripts.iterdir()), reverse=True)


def test_ls_refuses_a_captured_setting_that_no_run_has(cli_error: CliError, scripts: Path) -> None:
    for arguments in (("--where", "settings.learnign_rate<1"), ("--sort", "-settings.learnign_rate")):
        [problem] = cli_error("runs", "ls", *arguments).problems
        assert (problem.code, problem.suggestion) == ("unknown_key", "settings.learning_rate")


def test_show_of_a_script_has_its_command_settings_and_changes(run_cli: RunCli, scripts: Path) -> None:
    text = run_cli("runs", "show", "a-done").out
    for shown in ("train.py --batch_size=12", "accuracy 1", "optim.lr_factor 1.0 → 2.0", "tokens/s"):
        assert shown in text
    assert re.search(r"^settings\.learning_rate +0\.5$", text, re.MULTILINE) and "default" not in text
    values = json.loads(run_cli("runs", "show", "a-done", "--json").out)
    assert (values["kind"], values["logged"], values["failure"]) == ("script", {"accuracy": 1.0}, None)
    assert values["not_default"]["settings.learning_rate"] == 0.5 and "optim.lr_factor" not in values["not_default"]


def test_show_of_a_failed_script_has_the_traceback(run_cli: RunCli, scripts: Path) -> None:
    text = run_cli("runs", "show", "b-failed").out
    assert 'File "train.py", line 9' in text and "samples/s" in text
    failure = json.loads(run_cli("runs", "show", "b-failed", "--json").out)["failure"]
    assert failure["message"] == "ValueError: no more data" and failure["details"].startswith("Traceback")


def test_show_has_the_last_warnings(run_cli: RunCli, scripts: Path) -> None:
    warnings = [ev.Warned(step=number, message=f"warning\n number {number}") for number in range(9)]
    path = recorded_script(scripts / "g", events=warnings, started=True, ending="running").path
    lines = [line for line in run_cli("runs", "show", path).out.splitlines() if "number" in line]
    assert len(lines) == 5 and "step 8" in lines[-1]
    assert len(json.loads(run_cli("runs", "show", path, "--json").out)["warnings"]) == 9


@pytest.mark.parametrize(("latest", "state"), [([], "running"), ([ev.Paused(step=2)], "paused")])
def test_show_of_a_run_in_progress_names_one_state(
    run_cli: RunCli, tmp_path: Path, latest: list[ev.Event], state: str
) -> None:
    run = recorded(tmp_path / "a", [STARTED, update(1), update(2), *latest], summary=False)
    lock = run.lock()
    text = run_cli("runs", "show", run.path).out
    lock.release()
    assert text.startswith(state) and "interrupted" not in text
    assert run_cli("runs", "show", run.path).out.startswith("interrupted after 2 steps")


def test_show_of_a_script_without_a_step(run_cli: RunCli, scripts: Path) -> None:
    lock = runs.find("d-launched").lock()
    values = json.loads(run_cli("runs", "show", "d-launched", "--json").out)
    lock.release()
    assert (values["state"], values["steps"], values["parameters"]) == ("running", 0, None)
    assert "has not made an optimizer step" in run_cli("runs", "show", "e-crashed").out


def test_script_that_ended_without_a_step_is_listed_with_the_reason(
    run_cli: RunCli, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [ev.Warned(step=0, message="it made no step"), ev.Stopped(step=0, reason="done")]
    recorded_script(scripts / "g", started=True, events=events)
    assert names(run_cli, "--where", "state=no-steps") == ["g"]
    [listed] = json.loads(run_cli("runs", "ls", "--where", "state=no-steps", "--json").out)
    assert (listed["problem"], listed["message"]) == (None, "it made no step")
    monkeypatch.setenv("COLUMNS", "200")
    assert "it made no step" in run_cli("runs", "ls").out and "no more data" in run_cli("runs", "ls").out
    assert "0 steps" not in run_cli("runs", "show", "g").out


def test_a_path_in_a_message_is_no_name_of_a_run(
    run_cli: RunCli, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = f"no such file: /a/b/{60 * 'c'}"
    recorded_script(scripts / "g", events=[ev.Failed(step=0, message=message, details="")])
    monkeypatch.setenv("COLUMNS", "200")
    assert f"  {message[:39]}…" in run_cli("runs", "ls").out


def test_compare_shows_scripts_and_our_own_runs_together(run_cli: RunCli, scripts: Path, tmp_path: Path) -> None:
    comparison = json.loads(run_cli("runs", "compare", "a-done", "b-failed", "f-ours", "--json").out)
    assert comparison["different"]["settings.learning_rate"] == [0.5, 0.01, None]
    assert "model.d_model" not in comparison["different"]
    result = run_cli(
        "runs", "compare", *sorted(path.name for path in scripts.iterdir()), "--curves", tmp_path / "x.svg"
    )
    assert result.code == 0 and (tmp_path / "x.svg").read_text("utf-8").count(">f-ours<") >= 1


def test_setting_of_a_script_is_not_shown_twice(run_cli: RunCli, scripts: Path) -> None:
    text = run_cli("runs", "compare", "a-done", "b-failed").out
    assert "settings.learning_rate" in text and "optim.lr" not in text.split()


def test_compare_keeps_the_keys_whole(run_cli: RunCli, scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert "settings.learning_rate" in run_cli("runs", "compare", "a-done", "b-failed", "c-killed").out


def test_compare_of_scripts_cannot_prompt_them(run_cli: RunCli, cli_error: CliError, scripts: Path) -> None:
    assert cli_error("runs", "compare", "a-done", "b-failed", "--prompt", "x").code == "unavailable"
    trained(scripts / "g-trained", "train.steps=1")
    command = ("runs", "compare", "a-done", "g-trained", "--prompt", "123", "--max-new-tokens", 2, "--json")
    replies = json.loads(run_cli(*command).out)["replies"]
    assert replies["a-done"][0].startswith("(") and len(replies["g-trained"][0]) == 2


@pytest.mark.parametrize("suffix", [".csv", ".json", ".svg", ".tfevents"])
@pytest.mark.parametrize("name", ["a-done", "b-failed", "c-killed", "d-launched"])
def test_every_format_takes_the_run_of_a_script(run_cli: RunCli, scripts: Path, name: str, suffix: str) -> None:
    result = run_cli("runs", "export", name, "--to", f"x{suffix}")
    assert result.code == (2 if (name, suffix) == ("d-launched", ".svg") else 0), result.err


def test_tag_note_and_rm_take_the_run_of_a_script(run_cli: RunCli, scripts: Path) -> None:
    assert run_cli("runs", "tag", "a-done", "keep").out == "keep\n"
    assert run_cli("runs", "note", "d-launched", "hangs").code == 0
    assert names(run_cli, "--where", "tag=keep") == ["a-done"] and names(run_cli, "--where", "note~hang")
    assert run_cli("runs", "rm", "a-done", "d-launched", "--yes").code == 0
    assert len(names(run_cli)) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--resume", "a-done"),
        ("run", "--resume", "a-done", "--steps", 99),
        ("run", "--resume", "a-done", "--allow-code"),
        ("run", "--resume", "d-launched", "--detach"),
        ("generate", "a-done", "--prompt", "x"),
        ("generate", "d-launched", "--prompt", "x", "--allow-code"),
        ("doctor", "a-done"),
        ("doctor", "a-done", "--allow-code"),
        ("run", "runs/a-done/config.toml"),
        ("sweep", "runs/a-done/config.toml", "--over", "optim.lr=0.1,0.2"),
        ("doctor", "runs/a-done/config.toml"),
        ("batch", "runs/a-done/config.toml"),
        ("randomness", "runs/a-done/config.toml"),
        ("config", "validate", "runs/a-done/config.toml"),
    ],
)
def test_what_a_script_cannot_do_is_exit_2(
    run_cli: RunCli, scripts: Path, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scripts.parent)
    result = run_cli(*(str(one).replace("runs/", f"{scripts}/") for one in arguments))
    assert result.code == 2 and "script" in result.err and not result.out
    assert len(result.err.splitlines()) == 1
    assert sorted(path.name for path in scripts.iterdir())[0] == "a-done" and len(list(scripts.iterdir())) == 6


@pytest.mark.parametrize(
    "text", ['kind = "scirpt"\n', 'kind = "script"\n[modle]\n', 'kind = "script"\n[settings', "kind=3"]
)
def test_damaged_config_of_a_script_is_exit_2_but_listed(
    run_cli: RunCli, scripts: Path, tmp_path: Path, text: str
) -> None:
    (scripts / "a-done" / "config.toml").write_text(text, "utf-8")
    for command in (("show", "a-done"), ("export", "a-done", "--to", "x.json"), ("rm", "a-done", "--yes")):
        result = run_cli("runs", *command)
        assert result.code == 2 and result.err.startswith("tui-lab: ")
    [row] = [row for row in json.loads(run_cli("runs", "ls", "--json").out) if row["name"] == "a-done"]
    assert (row["state"], row["kind"]) == ("damaged", None) and row["problem"]
    assert run_cli("runs", "compare", "a-done", "b-failed").code == 0


def test_captured_text_with_a_newline_stays_on_its_line(run_cli: RunCli, scripts: Path) -> None:
    path = recorded_script(scripts / "g", config=script_config(start="\n\x1b[2J", prompt="é")).path
    text = run_cli("runs", "show", path).out
    assert r"settings.start          '\n\x1b[2J'" in text and "é" in text
    assert r"'\n\x1b[2J'" in run_cli("runs", "compare", path, "a-done").out
