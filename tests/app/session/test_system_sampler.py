"""Samples of the machine: which process is measured, GPUs through a fake NVML, and what the state keeps of them."""

import os
import socket
import subprocess
import sys
import types
from collections import namedtuple
from typing import Any

import psutil
import pytest

from tests.app.fake import ready, started, update
from tests.app.session.helpers import wait_until
from tests.core.recorded import recorded
from tui_lab.app.session import system_sampler
from tui_lab.app.session.following import Following
from tui_lab.app.session.messages import GpuSample, Rewound, SessionMessage, SystemSample
from tui_lab.app.session.replay import Replay
from tui_lab.app.session.state import LabState
from tui_lab.app.session.system_history import N_SAMPLES
from tui_lab.app.session.system_sampler import Gpus, Probe, SystemSampler, cpu_temperature
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.lock import Holder

Sensor = namedtuple("Sensor", "current")  # noqa: PYI024


class NVMLError(Exception):
    pass


def fake_nvml(**functions: Any) -> types.ModuleType:
    """An NVML with one GPU, some of whose functions are replaced."""

    def value(result: Any) -> Any:
        return lambda *arguments: result

    module = types.ModuleType("pynvml")
    vars(module).update(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=value(None),
        nvmlShutdown=value(None),
        nvmlDeviceGetCount=value(1),
        nvmlDeviceGetHandleByIndex=value("handle"),
        nvmlDeviceGetName=value(b"NVIDIA H100"),
        nvmlDeviceGetUtilizationRates=value(types.SimpleNamespace(gpu=97, memory=40)),
        nvmlDeviceGetMemoryInfo=value(types.SimpleNamespace(used=3 * 2**30, total=80 * 2**30)),
        nvmlDeviceGetTemperature=value(71),
        nvmlDeviceGetPowerUsage=value(310_500),
        **functions,
    )
    return module


def fails(*arguments: Any) -> Any:
    raise NVMLError("not supported")


def test_gpu_is_measured_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    assert Gpus().samples() == (GpuSample("NVIDIA H100", 97.0, 3 * 2**30, 80 * 2**30, 71.0, 310.5),)


def test_gpu_without_some_sensors_has_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_nvml()
    vars(module).update(nvmlDeviceGetPowerUsage=fails, nvmlDeviceGetUtilizationRates=fails)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    [gpu] = Gpus().samples()
    assert gpu.watts is None and gpu.used_percent is None and gpu.temperature == 71.0


def test_no_gpu_without_driver_or_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_nvml()
    vars(module).update(nvmlInit=fails)
    for nvml in (module, None):
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        gpus = Gpus()
        assert gpus.samples() == ()
        gpus.close()


def test_temperature_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors: Any = {"nvme": [Sensor(90.0)], "coretemp": [Sensor(54.0), Sensor(61.0)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert cpu_temperature() == 61.0
    sensors.pop("coretemp")
    assert cpu_temperature() is None
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert cpu_temperature() is None


def test_process_that_trains_is_measured_until_it_ends() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pid: list[int | None] = [child.pid]
    probe = Probe(lambda: pid[0])
    sample = probe.sample()
    assert sample.trains and sample.pid == child.pid and sample.process_bytes
    assert 0 < sample.used_bytes < sample.total_bytes
    child.communicate(b"\n")
    assert probe.sample().process_bytes is None
    pid[0] = None
    sample = probe.sample()
    assert not sample.trains and sample.pid == os.getpid() and sample.process_bytes


def test_sampler_gives_its_samples_in_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_sampler, "SECONDS_BETWEEN_SAMPLES", 0.001)
    sampler = SystemSampler(os.getpid)
    sampler.start()
    samples: list[SystemSample] = []

    def drained() -> bool:
        samples.extend(sampler.drain())
        return len(samples) >= 2

    wait_until(drained)
    sampler.close()
    assert {sample.pid for sample in samples} == {os.getpid()}


def sample(n_bytes: int, *, trains: bool = True, pid: int = 1, **fields: Any) -> SystemSample:
    return SystemSample(pid, trains, 50.0, 100.0, n_bytes, 2**32, 2**34, **fields)


def test_state_keeps_ten_minutes_of_samples_and_the_memory_at_each_step() -> None:
    state = LabState()
    opened = ready()
    steps: list[SessionMessage] = [opened, started(opened), update(1), sample(2**30), update(2), sample(2**31)]
    for message in steps:
        state.apply(message)
    assert state.curves["memory_mib"].points == [(1, 1024.0), (2, 2048.0)]
    for message in (ev.Paused(step=2), sample(2**32), ev.Resumed(step=2), sample(2**32, trains=False)):
        state.apply(message)
    assert len(state.curves["memory_mib"].points) == 2, "neither while paused nor of another process"
    for number in range(N_SAMPLES):
        state.apply(sample(number + 1, cpu_temperature=60.0))
    assert len(state.system.series["memory"]) == N_SAMPLES and max(state.system.series["memory"]) == N_SAMPLES
    state.apply(Rewound(opened, (started(opened),)))
    assert state.step == 0 and len(state.system.series["cpu"]) == N_SAMPLES, "the machine does not go back in time"
    state.apply(sample(7, pid=2))
    assert list(state.system.series["memory"]) == [7.0], "of another process"


def test_process_of_a_followed_run_is_measured_if_it_is_on_this_machine() -> None:
    path = str(recorded(runs.runs_folder() / "followed").path)
    for host, pid, measured in ((socket.gethostname(), 7, 7), ("elsewhere", 7, None), (socket.gethostname(), 0, None)):
        assert Following(path, Holder(pid, host, "", "tui-lab run")).pid == measured
    assert Replay(path, lambda: 0.0).pid is None
