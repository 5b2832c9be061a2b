"""Trials are handed out once each, whoever dies meanwhile."""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep import plan as planning
from tui_lab.core.runs.sweep import study
from tui_lab.core.runs.sweep.folder import Plan, Result, Sweep, Watch
from tui_lab.util.errors import ConfigError, RunError


def plan(*over: str, sets: Sequence[str] = (), **options: Any) -> Plan:
    return planning.plan("reverse", sets, over, options)


def made(path: Path, *over: str, **options: Any) -> Sweep:
    return sweeps.create(plan(*(over or ("optim.lr=0.1,0.2,0.3",)), **options), path)


def test_a_plan_comes_back_from_its_folder(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s", "optim.name=adam,sgd", "optim.betas=[0.9,0.99],[0.8,0.9]", seeds=2, jobs=3)
    assert sweeps.read(tmp_path / "s") == sweep
    assert len(sweep.plan.points) == 8 and sweep.plan.metric == "val_loss"
    assert [point["train.seed"] for point in sweep.plan.points[:2]] == [0, 1]
    config = sweep.plan.config(7)
    assert (config.optim.name, config.optim.betas, config.train.seed) == ("sgd", (0.8, 0.9), 1)
    assert config.train.threads == max(1, planning.cores() // 3)


def test_every_trial_has_a_folder_of_its_own_that_tells_its_values(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s", "optim.lr=0.1,0.2", "data.path=../x/../../y,bundled", 'faults=[],["no_mask"]')
    folders = [sweep.folder(number) for number in range(8)]
    assert len(set(folders)) == 8 and all(folder.parent == sweep.path / "trials" for folder in folders)
    assert "lr-0.1" in folders[0].name


@pytest.mark.parametrize(
    ("over", "options", "words"),
    [
        ((), {}, "say over what"),
        (("optim.lr=1,2", "optim.lr=3"), {}, "given twice"),
        (("train.steps=1,2",), {}, "both set and swept over"),
        (("train.seed=1,2",), {"seeds": 2}, "train.seed is swept over already"),
        (("optim.lr=1,2",), {"metric": "val_los"}, "did you mean val_loss"),
        (("optim.lr=0..1",), {}, "--random N"),
        (("model.dropout=2,3",), {}, "model.dropout = 2"),
        (("optim.lr=1,2",), {"seeds": 6000}, "at most 10,000"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_told(over: tuple[str, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(*over, sets=["train.steps=5"], **options)


def test_pruning_needs_something_to_look_at() -> None:
    with pytest.raises(ConfigError, match="train.eval_every = 0"):
        plan("optim.lr=1,2", sets=["train.eval_every=0"], prune=True)
    with pytest.raises(ConfigError, match="only with --engine local"):
        planning.plan("reverse", [], ["optim.lr=1,2"], {"prune": True}, engine="ray")


def test_one_bad_point_among_good_ones_is_no_error_yet() -> None:
    found = plan("model.dropout=0.5,1.5")
    with pytest.raises(ConfigError, match=r"model\.dropout = 1\.5"):
        found.config(1)


def test_options_come_before_the_table_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        '[data]\ntask = "reverse"\ntokenizer = "digits"\n[sweep]\nseeds = 3\n[sweep.over]\n"optim.lr" = "0.1..0.2"\n'
    )
    found = planning.plan(str(tmp_path / "s.toml"), [], ["model.d_ff=8,16"], {"random": 2, "seeds": 1})
    assert list(found.over) == ["optim.lr", "model.d_ff"] and len(found.points) == 2 and found.seeds == 1
    (tmp_path / "s.toml").write_text("[sweep]\nmetrics = 3\n")
    with pytest.raises(ConfigError, match="sweep.metrics: unknown key; did you mean metric"):
        planning.plan(str(tmp_path / "s.toml"), [], [], {})


def test_a_folder_is_joined_by_the_same_sweep_alone(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s")
    assert made(tmp_path / "s") == sweep
    with pytest.raises(RunError, match="another sweep is there"):
        made(tmp_path / "s", "optim.lr=0.1,0.2")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="it is no sweep"):
        made(tmp_path / "mine")
    with pytest.raises(RunError, match="not a sweep"):
        sweeps.find(str(tmp_path / "mine"))


def test_a_damaged_file_is_told_by_its_name(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s")
    sweep.write_result(1, Result("done", 1.0))
    (tmp_path / "s" / "results" / "0001.json").write_text('{"state": "done"')
    with pytest.raises(RunError, match=r"0001\.json"):
        sweep.rows()
    (tmp_path / "s" / "sweep.json").write_text("[]")
    with pytest.raises(RunError, match=r"sweep\.json"):
        sweeps.read(tmp_path / "s")
    (tmp_path / "s" / "study.db").write_text("no database at all, though long enough to be looked at")
    with pytest.raises(RunError, match=r"study\.db: not readable"), study.opened(sweep):
        pass


def test_a_trial_is_handed_out_once_and_again_only_where_it_was_let_go(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s")
    with study.opened(sweep) as first, study.opened(sweep) as second:
        a, b = first.claim(), second.claim()
        assert a is not None and b is not None and {a.number, b.number} == {0, 1}
        assert [row.state for row in sweep.rows()] == ["running", "running", "waiting"]
        a.release()
        again = second.claim()
        assert again is not None and again.number == a.number, "what was cut off comes before what waits"
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


def test_a_result_that_the_study_was_not_told_of_counts(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s")
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


def test_a_study_that_is_lost_is_made_again_from_the_results(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s")
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
sweep = sweeps.read(Path(sys.argv[1]))
with study.opened(sweep) as mine:
    while (claim := mine.claim()) is not None:
        print(claim.number, flush=True)
        if sys.argv[2] == "die":
            os.kill(os.getpid(), 9)
        claim.finish(sweeps.Result("done", float(claim.number)))
        claim.release()
"""


def test_processes_at_once_share_all_trials_and_a_killed_one_leaves_its_trial_to_the_others(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s", "optim.lr=" + ",".join(str(i / 100) for i in range(1, 13)))

    def claims(how: str) -> list[int]:
        command = [sys.executable, "-c", CLAIMS, str(sweep.path), how]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == (-9 if how == "die" else 0), done.stderr
        return [int(line) for line in done.stdout.split()]

    [killed] = claims("die")
    with ThreadPoolExecutor() as pool:
        others = list(pool.map(claims, ["live", "live"]))
    left = [row.number for row in sweep.rows() if row.state != "done"]
    assert left in ([], [killed]), "whoever came after the death took it over; else it is still there to be taken"
    taken = others[0] + others[1] + (claims("live") if left else [])
    assert sorted(taken) == list(range(12))
    assert all(row.value == row.number for row in sweep.rows())


def test_a_watch_sees_what_the_rows_say(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s")
    watch = Watch(sweep)
    sweep.write_result(2, Result("done", 3.0))
    assert watch.rows() == sweep.rows() == watch.rows()
    found = sweeps.read_sweep(sweep.path)
    assert [row.state for row in found] == ["waiting", "waiting", "done"]


def test_the_best_comes_first_and_what_did_not_end_last(tmp_path: Path) -> None:
    sweep = made(tmp_path / "s", "optim.lr=1,2,3,4,5")
    for number, result in enumerate(
        [Result("failed", message="x"), Result("done", 2.0), Result("pruned", 0.1), Result("done", 1.0)]
    ):
        sweep.write_result(number, result)
    order = [row.number for row in sweeps.ranked(sweep.rows(), rising=False)]
    assert order == [3, 1, 2, 0, 4]
    assert [row.number for row in sweeps.ranked(sweep.rows(), rising=True)][:2] == [1, 3]


def test_sweeps_are_listed_without_the_damaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path))
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    (second.path / "sweep.json").write_text("{")
    assert [sweep.name for sweep in sweeps.list_sweeps()] == [first.name]
    with pytest.raises(RunError, match="not a sweep"):
        sweeps.find("aa")
    assert (
        sweeps.find("a").plan == first.plan and json.loads((first.path / "sweep.json").read_text())["name"] == "reverse"
    )
