"""Sweep folders: plans, results, and trials that each process claims once, even when another one is killed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.core.recorded import summary
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep import plan as planning
from tui_lab.core.runs.sweep import study
from tui_lab.core.runs.sweep.folder import Plan, Result, Sweep, Watch, trial_lock
from tui_lab.core.runs.sweep.parallel import usable_cores
from tui_lab.util.errors import ConfigError, RunError


def plan(*over: str, sets: Sequence[str] = (), **options: Any) -> Plan:
    return planning.plan("reverse", sets, over, options)


def create(path: Path, *over: str, **options: Any) -> Sweep:
    return sweeps.create_sweep(plan(*(over or ("optim.lr=0.1,0.2,0.3",)), **options), path)


def test_plan_is_read_back_from_its_folder(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s", "optim.name=adam,sgd", "optim.betas=[0.9,0.99],[0.8,0.9]", seeds=2, jobs=3)
    assert sweeps.read_sweep(tmp_path / "s") == sweep
    assert len(sweep.plan.points) == 8 and sweep.plan.metric == "val_loss"
    assert [point["train.seed"] for point in sweep.plan.points[:2]] == [0, 1]
    config = sweep.plan.config(7)
    assert (config.optim.name, config.optim.betas, config.train.seed) == ("sgd", (0.8, 0.9), 1)
    assert config.train.threads == max(1, usable_cores() // 3)


def test_every_trial_has_its_own_folder_named_after_its_values(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s", "optim.lr=0.1,0.2", "data.path=../x/../../y,bundled", 'faults=[],["no_mask"]')
    folders = [sweep.folder(number) for number in range(8)]
    assert len(set(folders)) == 8 and all(folder.parent == sweep.path / "trials" for folder in folders)
    assert "lr-0.1" in folders[0].name


@pytest.mark.parametrize(
    ("over", "options", "code", "key"),
    [
        ((), {}, "missing", "--over"),
        (("optim.lr=1,2", "optim.lr=3"), {}, "conflict", "--over"),
        (("train.steps=1,2",), {}, "conflict", "train.steps"),
        (("train.seed=1,2",), {"seeds": 2}, "conflict", "--seeds"),
        (("optim.lr=1,2",), {"metric": "val_los"}, "unknown_name", "--metric"),
        (("optim.lr=0..1",), {}, "missing", "optim.lr"),
        (("model.dropout=2,3",), {}, "invalid", "model.dropout"),
        (("optim.lr=1,2",), {"seeds": 6000}, "too_large", "sweep"),
        (("optim.lr=1,2",), {"seeds": 0}, "invalid", "sweep.seeds"),
        (("optim.lr=1,2",), {"metric": "tokens"}, "missing", "train.target_loss"),
        (("optim.lr=1,2",), {"metric": "tokens_per_s", "prune": True}, "conflict", "--prune"),
    ],
)
def test_impossible_sweep_is_refused(over: tuple[str, ...], options: dict[str, Any], code: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(*over, sets=["train.steps=5"], **options)
    [problem] = caught.value.problems
    assert (problem.code, problem.key) == (code, key)


def test_pruning_needs_evaluations_and_the_local_engine() -> None:
    with pytest.raises(ConfigError) as caught:
        plan("optim.lr=1,2", sets=["train.eval_every=0"], prune=True)
    assert (caught.value.code, caught.value.problems[0].key) == ("conflict", "--prune")
    with pytest.raises(ConfigError) as caught:
        planning.plan("reverse", [], ["optim.lr=1,2"], {"prune": True}, engine="ray")
    assert (caught.value.code, caught.value.problems[0].key) == ("conflict", "--prune")


def test_one_invalid_point_among_valid_ones_is_accepted() -> None:
    sweep_plan = plan("model.dropout=0.5,1.5")
    with pytest.raises(ConfigError) as caught:
        sweep_plan.config(1)
    assert (caught.value.problems[0].key, caught.value.problems[0].value) == ("model.dropout", 1.5)


def test_options_take_precedence_over_the_config(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        '[data]\ntask = "reverse"\ntokenizer = "digits"\n[sweep]\nseeds = 3\n[sweep.over]\n"optim.lr" = "0.1..0.2"\n'
    )
    merged = planning.plan(str(tmp_path / "s.toml"), [], ["model.d_ff=8,16"], {"random": 2, "seeds": 1})
    assert list(merged.over) == ["optim.lr", "model.d_ff"] and len(merged.points) == 2 and merged.seeds == 1
    assert sweeps.create_sweep(merged, None).path.name.startswith("s-")


def test_unknown_key_in_the_sweep_table_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[sweep]\nmetrics = 3\n")
    with pytest.raises(ConfigError) as caught:
        planning.plan(str(tmp_path / "s.toml"), [], [], {})
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.suggestion) == ("unknown_key", "sweep.metrics", "metric")


def test_folder_is_only_joined_by_the_same_sweep(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s")
    assert create(tmp_path / "s") == sweep
    with pytest.raises(RunError) as caught:
        create(tmp_path / "s", "optim.lr=0.1,0.2")
    assert caught.value.code == "exists"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with pytest.raises(RunError) as caught:
        create(tmp_path / "mine")
    assert caught.value.code == "exists"
    with pytest.raises(RunError) as caught:
        sweeps.find_sweep(str(tmp_path / "mine"))
    assert caught.value.code == "unknown_name"


def test_damaged_file_is_named_in_the_error(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    sweep = create(folder)
    sweep.write_result(1, Result("done", 1.0))
    damaged = [("results/0001.json", '{"state": "done"'), ("sweep.json", "[]"), ("study.db", "not a database " * 9)]
    for name, text in damaged:
        (folder / name).write_text(text)
    with pytest.raises(RunError) as caught:
        sweep.rows()
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(folder / "results" / "0001.json"))
    with pytest.raises(RunError) as caught:
        sweeps.read_sweep(folder)
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(folder / "sweep.json"))
    with pytest.raises(RunError) as caught, study.opened(sweep):
        pass
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", str(folder / "study.db"))


def test_result_with_a_summary_is_read_back(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s")
    result = Result("done", float("inf"), summary=summary(train_loss=float("-inf")))
    sweep.write_result(0, result)
    assert sweep.result(0) == result


def test_trial_is_claimed_once_and_again_after_its_release(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s")
    with study.opened(sweep) as first, study.opened(sweep) as second:
        a, b = first.claim(), second.claim()
        assert a is not None and b is not None and {a.number, b.number} == {0, 1}
        assert [row.state for row in sweep.rows()] == ["running", "running", "waiting"]
        a.release()
        again = second.claim()
        assert again is not None and again.number == a.number, "interrupted trials come before waiting ones"
        again.finish(Result("done", 0.5))
        again.release()
        c = first.claim()
        assert c is not None and c.number == 2 and first.claim() is None and second.claim() is None
        b.finish(Result("failed", message="it diverged"))
        c.finish(Result("pruned", 2.0))
        for claim in (b, c):
            claim.release()
        assert first.claim() is None
    assert [row.state for row in sweep.rows()] == ["done", "failed", "pruned"]


def test_result_that_the_study_does_not_have_counts(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s")
    with study.opened(sweep) as mine:
        claim = mine.claim()
        assert claim is not None
        sweep.write_result(claim.number, Result("done", 1.0))
        claim.release()
        rest = [mine.claim() for _ in range(3)]
        assert [one.number if one else None for one in rest] == [1, 2, None]
        for one in rest[:2]:
            assert one is not None
            one.release()


def test_trial_whose_result_is_damaged_is_released(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s")
    sweep.write_result(0, Result("done", 1.0))
    result = sweep._result(0)
    result.write_text("{", "utf-8")
    with study.opened(sweep) as mine, pytest.raises(RunError):
        mine.claim()
    with sweep.lock(trial_lock(0)).acquire(timeout=0):
        pass


def test_lost_study_is_rebuilt_from_the_results(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s")
    with study.opened(sweep) as mine:
        claim = mine.claim()
        assert claim is not None
        claim.finish(Result("done", 1.0))
        claim.release()
    (sweep.path / "study.db").unlink()
    with study.opened(sweep) as mine:
        claim = mine.claim()
        assert claim is not None and claim.number == 1
        claim.release()


CLAIMS = """
import os, sys
from pathlib import Path
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep import study

def claim_all(how):
    sweep = sweeps.read_sweep(Path(sys.argv[1]))
    with study.opened(sweep) as mine:
        while (claim := mine.claim()) is not None:
            os.write(1, b"%d\\n" % claim.number)
            if how == "die":
                os.kill(os.getpid(), 9)
            claim.finish(sweeps.Result("done", float(claim.number)))
            claim.release()

def claim_in_processes(ways):
    pids = []
    for how in ways:
        pid = os.fork()
        if pid == 0:
            try:
                claim_all(how)
            finally:
                os._exit(0)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

codes = [claim_in_processes(ways.split("+")) for ways in sys.argv[2:]]
sys.exit(sum(code != 0 for group in codes for code in group))
"""
"""Claim in groups of processes, one group after the other. All are forks of one process, which has imported optuna."""


@pytest.mark.slow
def test_processes_share_all_trials_and_take_over_that_of_a_killed_one(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s", "optim.lr=" + ",".join(str(i / 100) for i in range(1, 13)))

    def claims(*groups: str) -> list[int]:
        command = [sys.executable, "-c", CLAIMS, str(sweep.path), *groups]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == groups.count("die"), done.stderr
        return [int(line) for line in done.stdout.split()]

    killed, *others = claims("die", "live+live")
    left = [row.number for row in sweep.rows() if row.state != "done"]
    assert left in ([], [killed]), "the trial of the killed process was taken over, or can still be"
    taken = others + (claims("live") if left else [])
    assert sorted(taken) == list(range(12))
    assert all(row.value == row.number for row in sweep.rows())


def test_watch_has_the_rows_of_the_sweep(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s")
    watch = Watch(sweep)
    sweep.write_result(2, Result("done", 3.0))
    assert watch.rows() == sweep.rows() == watch.rows()
    rows = sweeps.read_sweep(sweep.path).rows()
    assert [row.state for row in rows] == ["waiting", "waiting", "done"]


def test_trials_are_ranked_best_first_and_unfinished_last(tmp_path: Path) -> None:
    sweep = create(tmp_path / "s", "optim.lr=1,2,3,4,5")
    for number, result in enumerate(
        [Result("failed", message="x"), Result("done", 2.0), Result("pruned", 0.1), Result("done", 1.0)]
    ):
        sweep.write_result(number, result)
    order = [row.number for row in sweeps.ranked(sweep.rows(), rising=False)]
    assert order == [3, 1, 2, 0, 4]
    assert [row.number for row in sweeps.ranked(sweep.rows(), rising=True)][:2] == [1, 3]


def test_sweeps_are_listed_without_damaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path))
    first, second = create(tmp_path / "a"), create(tmp_path / "b")
    (second.path / "sweep.json").write_text("{")
    assert [sweep.name for sweep in sweeps.list_sweeps()] == [first.name]
    with pytest.raises(RunError) as caught:
        sweeps.find_sweep("aa")
    assert (caught.value.code, caught.value.problems[0].suggestion) == ("unknown_name", "a")
    assert (
        sweeps.find_sweep("a").plan == first.plan
        and json.loads((first.path / "sweep.json").read_text())["name"] == "reverse"
    )
