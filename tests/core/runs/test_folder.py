"""Run folders: creating, reading, finding and rewinding runs."""

import json
from pathlib import Path

import pytest

from tests.core.recorded import recorded, recorded_script, script_config
from tests.core.tiny import tiny, trainer, trainer_and_run
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.doctor.diagnose import open_training
from tui_lab.core.inference.load_model import choose_weights, load_model
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import summarize
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError


def finished_run(path: Path, *overrides: str) -> Run:
    """A recorded run that trained to its end."""
    training, run = trainer_and_run(path, *overrides)
    summarizer = summarize(run.record(training.events()))
    run.write_summary(summarizer.summary(str(path)))
    return run


def test_run_folder_is_read_back(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a", "optim.lr=0.02")
    assert run.config() == tiny("optim.lr=0.02")
    assert run.tokenizer().n_vocab == 5
    assert [event.kind for event in run.events()][-2:] == ["saved", "stopped"]
    summary = run.summary()
    assert summary is not None and summary.train_loss == summarize(run.events()).summary("").train_loss
    model, tokenizer = load_model(run)
    assert model.n_vocab == tokenizer.n_vocab and not model.training


def test_torn_last_line_is_skipped_and_other_damage_is_an_error(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a")
    complete = list(run.events())
    path = run.path / "events.jsonl"
    path.write_text(path.read_text("utf-8") + '{"event": "step", "st', "utf-8")
    assert list(run.events()) == complete
    path.write_text('{"event": "paused", "step": 1}\nnonsense\n', "utf-8")
    with pytest.raises(RunError) as caught:
        list(run.events())
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", f"{path}, line 2")


def test_rewind_drops_the_events_after_the_checkpoint(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "a", "train.checkpoint_every=4")
    events = run.record(training.events())
    for event in events:
        if isinstance(event, ev.Saved) and training.config.optim.lr != 0.5:
            training.commands.put(cmd.Set("optim.lr", 0.5))
        if event.step == 6:
            break
    run.rewind(4, 1.5)
    events_left = list(run.events())
    assert events_left[-1] == ev.Saved(
        step=4, path=events_left[-1].path if isinstance(events_left[-1], ev.Saved) else ""
    )
    assert not [event for event in events_left if isinstance(event, ev.Changed)]


def test_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a")
    before = (run.path / "events.jsonl").read_text("utf-8")
    with pytest.raises(RunError) as caught:
        finished_run(tmp_path / "a")
    assert (caught.value.code, caught.value.problems[0].value) == ("exists", str(tmp_path / "a"))
    assert (run.path / "events.jsonl").read_text("utf-8") == before
    (tmp_path / "file").write_text("mine", "utf-8")
    with pytest.raises(RunError) as caught:
        finished_run(tmp_path / "file")
    assert caught.value.code == "exists"


def test_runs_are_found_by_name_or_path_and_the_nearest_is_suggested(tmp_path: Path) -> None:
    training = trainer()
    run, second = (runs.create(name, training.config, training.task.tokenizer) for name in ("tiny one", "tiny one"))
    assert run.path.parent == runs.runs_folder() and run.path != second.path and " " not in run.name
    assert runs.find(run.name) == run and runs.find(str(run.path)).name == run.name
    assert set(runs.list_runs()) == {run, second}
    with pytest.raises(RunError) as caught:
        runs.find("tiny-on")
    [problem] = caught.value.problems
    assert (problem.code, problem.value) == ("unknown_name", "tiny-on")
    assert problem.suggestion in {run.name, second.name}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("lr0.1", "lr0.1"),
        ("nb-v1.5 two", "nb-v1.5-two"),
        ("exp lr=0.1 v1.2/b", "exp-lr-0.1-v1.2-b"),
        ("../hidden", "hidden"),
        ("…", "run"),
    ],
)
def test_folder_keeps_the_name_but_for_what_it_cannot_have(name: str, folder: str, tmp_path: Path) -> None:
    path = runs.free_path(tmp_path, name)
    assert path.parent == tmp_path and path.name.rpartition("-")[0].rpartition("-")[0] == folder


def test_folder_is_named_after_a_config_file_without_its_suffix(tmp_path: Path) -> None:
    config = tmp_path / "small.v2.toml"
    config.write_text(settings.to_toml(tiny()), "utf-8")
    opened = open_run.start_from(str(config), [], None)
    opened.close()
    assert opened.run.name.startswith("small.v2-2")


def test_trial_is_found_by_its_own_name_if_only_one_has_it() -> None:
    """Narrow tables show only that name."""
    trial = recorded(runs.runs_folder() / "sweep-1" / "trials" / "0001-lr-[0.5]")
    assert runs.find("0001-lr-[0.5]").path == trial.path
    recorded(runs.runs_folder() / "sweep-2" / "trials" / "0001-lr-[0.5]")
    with pytest.raises(RunError):
        runs.find("0001-lr-[0.5]")


def test_only_a_writer_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a")
    (run.checkpoints / f"{files.TEMPORARY}x").mkdir()
    (run.path / f"{files.TEMPORARY}y").write_text("half", "utf-8")
    runs.find(str(run.path))
    assert len(list(run.path.rglob(f"{files.TEMPORARY}*"))) == 2, "another process may be writing there"
    run.lock().release()
    assert not list(run.path.rglob(f"{files.TEMPORARY}*"))


def test_damaged_tokenizer_or_summary(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a")
    (run.path / "tokenizer.json").write_text(json.dumps({"name": "klingon"}), "utf-8")
    (run.path / "summary.json").write_text("{", "utf-8")
    assert run.summary() is None
    with pytest.raises(RunError) as caught:
        run.tokenizer()
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(run.path / "tokenizer.json"))


def test_run_without_a_checkpoint_has_no_model(tmp_path: Path) -> None:
    run = runs.create("tiny", tiny(), trainer().task.tokenizer, tmp_path / "a")
    with pytest.raises(RunError) as caught:
        load_model(run)
    assert (caught.value.code, caught.value.problems[0].key) == ("not_found", str(run.path))


def test_best_weights_are_used_where_the_run_stops_early(tmp_path: Path) -> None:
    early = finished_run(tmp_path / "a", "optim.lr=100", "train.eval_every=1", "train.patience=2", "train.steps=50")
    checkpoint = ckpt.load(early.latest())
    assert checkpoint.best is not None
    assert load_model(early)[0].get_parameter("W_E.weight").equal(checkpoint.best["W_E.weight"])
    assert load_model(early, "last")[0].get_parameter("W_E.weight").equal(checkpoint.model["W_E.weight"])
    assert not checkpoint.best["W_E.weight"].equal(checkpoint.model["W_E.weight"])
    best, last = choose_weights(early), choose_weights(early, "last")
    assert (best.which, best.step, best.last) == ("best", checkpoint.progress.best_step, checkpoint.progress.step)
    assert f"of step {best.step:,}" in best.description and "--weights last" in best.description
    assert f"of step {checkpoint.progress.step:,}" in last.description


def test_last_weights_are_used_where_the_run_does_not_stop_early(tmp_path: Path) -> None:
    chosen = choose_weights(finished_run(tmp_path / "a", "optim.lr=100", "train.eval_every=1"))
    assert chosen.which == "last" and chosen.step == chosen.last


def test_config_of_a_script_is_read_but_not_trained(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    assert run.config() == script_config()
    for refused in (
        run.trainer_config,
        run.refuse_script,
        lambda: load_model(run),
        lambda: open_run.resume(str(run.path), None),
        lambda: open_run.fork(str(run.path), tiny()),
        lambda: open_training(str(run.path), []),
    ):
        with pytest.raises(RunError) as caught:
            refused()
        assert (caught.value.code, caught.value.problems[0].key) == ("unavailable", run.name)
    run.lock().release()


def test_damaged_config_of_a_script_is_an_error(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    (run.path / "config.toml").write_text('kind = "script"\n[optim]\nlr_facter = 1\n', "utf-8")
    with pytest.raises(ConfigError) as caught:
        run.config()
    assert caught.value.problems[0].suggestion == "optim.lr_factor"


def test_folder_of_a_script_is_taken_without_a_hint_to_resume(tmp_path: Path) -> None:
    runs_of_each_kind = (recorded_script(tmp_path / "a"), recorded(tmp_path / "b"))
    hints = []
    for run in runs_of_each_kind:
        with pytest.raises(RunError) as caught:
            runs.create("again", tiny(), run.tokenizer(), run.path)
        assert caught.value.code == "exists"
        hints.append("--resume" in caught.value.problems[0].message)
    assert hints == [False, True]
