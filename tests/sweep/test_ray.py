"""Trials on Ray give the same results; without Ray the error names the extra."""

import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from tests.core.runs.test_folder import finished_run as made_run
from tests.process import TINY, Cli
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import Result, Sweep, trial_lock
from tui_lab.core.runs.sweep.plan import plan
from tui_lab.sweep import ray_engine
from tui_lab.util.errors import ConfigError


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as caught:
        ray_engine.require_ray()
    assert caught.value.code == "unavailable" and "tui-lab[ray]" in str(caught.value)


def test_a_run_folder_is_packed_and_unpacked(tmp_path: Path) -> None:
    run = made_run(tmp_path / "there")
    ray_engine.unpack(ray_engine.pack(run.path), tmp_path / "here")
    here = Run(tmp_path / "here")
    assert list(here.events()) == list(run.events()) and here.config() == run.config()
    assert (here.latest() / "model.safetensors").read_bytes() == (run.latest() / "model.safetensors").read_bytes()
    summary = here.summary()
    assert summary is not None and summary.run == str(tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


class FakeRay(types.ModuleType):
    """A cluster of two CPUs whose trials all fail, once `ready` has them, with an error without a message."""

    class exceptions:
        RayError = ConnectionError

    def __init__(self) -> None:
        super().__init__("ray")
        self.ready: list[object] = []
        self.canceled: list[object] = []
        self.is_initialized = lambda: True
        self.cluster_resources = lambda: {"CPU": 2}
        self.shutdown = lambda: None
        self.remote = lambda function: self
        self.options = lambda **options: SimpleNamespace(remote=lambda *arguments: object())

    def wait(self, references: list[object], **options: Any) -> tuple[list[object], list[object]]:
        return [reference for reference in references if reference in self.ready], []

    def get(self, reference: object) -> NoReturn:
        raise ConnectionError

    def cancel(self, reference: object, *, force: bool) -> None:
        self.canceled.append(reference)


def test_every_trial_is_released_whatever_goes_wrong_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    sweep = sweeps.create_sweep(plan("reverse", [], ["optim.lr=0.1,0.2,0.3"], {"jobs": 2}), tmp_path / "s")
    engine = ray_engine.RayEngine(sweep, 2)
    engine.tend([])
    first = next(iter(engine._claims))
    ray.ready = [first]
    engine.tend([])
    result = sweep.result(0)
    assert result is not None and result.state == "failed" and "ConnectionError" in result.message
    ray.ready = list(engine._claims)[:1]

    def refuse(sweep: Sweep, number: int, result: Result) -> NoReturn:
        raise OSError("full")

    with monkeypatch.context() as context:
        context.setattr(Sweep, "write_result", refuse)
        with pytest.raises(OSError):
            engine.kill()
    assert not engine.busy and len(ray.canceled) == 2
    for number in range(3):
        with sweep.lock(trial_lock(number)).acquire(timeout=0):
            pass
    engine.close()


@pytest.mark.slow
def test_the_same_sweep_on_ray_gives_the_same_losses(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("ray")
    arguments = (
        "sweep",
        "reverse",
        *TINY,
        "--over",
        "optim.lr=0.01,0.02",
        "--over",
        "model.dropout=0.0,1.5",
        "--steps",
        "30",
        "--json",
    )
    here = cli(*arguments, "--out", "here")
    there = cli(*arguments, "--out", "there", "--engine", "ray", "--jobs", "2")
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    ends = [json.loads(done.stdout.splitlines()[-1])["trials"] for done in (here, there)]
    assert [[row["state"] for row in rows] for rows in ends] == [["done", "done", "failed", "failed"]] * 2
    for a, b in zip(*ends, strict=True):
        assert (a["values"], a["value"], a["message"]) == (b["values"], b["value"], b["message"])
        if a["state"] == "done":
            files = [Path(tmp_path / row["run"]) / "events.jsonl" for row in (a, b)]
            steps = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
            first, second = ([one["loss"] for one in records if one["event"] == "step"] for records in steps)
            assert first == second and len(first) == 30
