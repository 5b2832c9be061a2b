"""How many trials of a sweep train at once, and with how many threads."""

import sys
from pathlib import Path

import pytest

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels import memory_estimate
from tui_lab.core.runs.sweep import parallel
from tui_lab.core.runs.sweep import plan as planning
from tui_lab.core.runs.sweep.parallel import Workers, choose_workers, needed_bytes
from tui_lab.core.runs.sweep.plan import plan
from tui_lab.util.errors import ConfigError


@pytest.fixture(autouse=True)
def machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and as much memory as is needed."""
    monkeypatch.setattr(parallel, "usable_cores", lambda: 8)
    monkeypatch.setattr(planning, "usable_cores", lambda: 8)
    monkeypatch.setattr(memory_estimate, "machine_bytes", lambda: 2**50)
    monkeypatch.setattr(parallel, "_GPU_FILES", ())
    monkeypatch.setattr(sys, "platform", "linux")


def config(preset: str, *overrides: str) -> Config:
    return settings.load(preset, overrides)


def jobs_and_threads(configs: list[Config], trials: int, *, timed: bool = False) -> tuple[int, int]:
    workers = choose_workers(configs, trials, timed=timed)
    return workers.jobs, workers.threads


@pytest.mark.parametrize(
    ("preset", "overrides", "trials", "expected"),
    [
        ("reverse", (), 100, (8, 1)),
        ("reverse", (), 3, (3, 1)),  # Small products do not gain from threads.
        ("socrates", (), 100, (8, 1)),
        ("socrates", (), 3, (3, 2)),
        ("socrates", (), 1, (1, 8)),
        ("reverse", ("train.threads=2",), 100, (4, 2)),
        ("reverse", ("train.threads=16",), 100, (1, 16)),
        ("reverse", ("train.device=cuda",), 100, (1, 8)),
    ],
)
def test_as_many_trials_as_cores_with_one_thread_each(
    preset: str, overrides: tuple[str, ...], trials: int, expected: tuple[int, int]
) -> None:
    assert jobs_and_threads([config(preset, *overrides)], trials) == expected


def test_measured_time_needs_trials_one_after_the_other() -> None:
    assert jobs_and_threads([config("reverse")], 100, timed=True) == (1, 8)


def test_memory_of_the_largest_trial_limits_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = config("socrates"), config("socrates", "train.batch_size=4096")
    machine = int(3.5 * needed_bytes(large) / parallel.SHARE_OF_MEMORY)
    monkeypatch.setattr(memory_estimate, "machine_bytes", lambda: machine)
    assert jobs_and_threads([small, large], 100) == (3, 2)
    monkeypatch.setattr(memory_estimate, "machine_bytes", lambda: 1)
    assert jobs_and_threads([small], 100) == (1, 8)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 0),
        ({"cpu.max": "max 100000\n"}, 0),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0),
    ],
)
def test_quota_of_a_container_is_read(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_CGROUPS", tmp_path)
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert parallel._quota() == cores


def test_plan_has_the_chosen_jobs_and_their_threads() -> None:
    chosen = plan("reverse", [], ["optim.lr=1,2,3"], {"jobs": "auto"})
    assert (chosen.jobs, chosen.base["train"]["threads"]) == (3, 1) and chosen.jobs_reason
    assert planning.choose(chosen, range(2)) == Workers(2, 1, "there are 2 trials to train")
    given = plan("reverse", [], ["optim.lr=1,2,3"], {"jobs": 2})
    assert (given.jobs, given.base["train"]["threads"], given.jobs_reason) == (2, 4, "")
    timed = plan("reverse", ["train.target_loss=1"], ["optim.lr=1,2,3"], {"metric": "train_seconds"})
    assert (timed.jobs, timed.base["train"]["threads"]) == (1, 8)
    cluster = plan("reverse", [], ["optim.lr=1,2,3"], {}, engine="ray")
    assert (cluster.jobs, cluster.base["train"]["threads"]) == (1, 1)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_jobs_are_a_number_or_auto(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planning.parse_jobs(text)
    [problem] = caught.value.problems
    assert (problem.key, problem.value) == ("--jobs", text)
    assert planning.parse_jobs("3") == 3 and planning.parse_jobs("auto") is None
