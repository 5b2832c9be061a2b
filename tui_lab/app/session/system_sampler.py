"""Sample the machine once a second in a thread, at a cost of less than 0.2 % of a core."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

import psutil

from tui_lab.app.session.messages import GpuSample, SystemSample

SECONDS_BETWEEN_SAMPLES = 1.0
SAMPLES_BETWEEN_TEMPERATURES = 5
"""Reading the sensors of the machine takes longer than everything else."""
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")
"""Names of the sensors that measure the processor, the best first."""
MOST_GPUS = 8


class Sampler(Protocol):
    """Gives samples of the machine; the app calls every method from its own thread."""

    def start(self) -> None: ...

    def drain(self) -> list[SystemSample]:
        """Return the samples since the last call, in order."""
        ...

    def close(self) -> None: ...


class NoSampler:
    """Gives no samples."""

    def start(self) -> None:
        return None

    def drain(self) -> list[SystemSample]:
        return []

    def close(self) -> None:
        return None


class SystemSampler:
    """pid: returns the process that trains; None if there is none on this machine, as in a replay."""

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid
        self._samples: queue.SimpleQueue[SystemSample] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> list[SystemSample]:
        samples = []
        with contextlib.suppress(queue.Empty):
            while True:
                samples.append(self._samples.get_nowait())
        return samples

    def close(self) -> None:
        self._closed.set()

    def _work(self) -> None:
        probe = Probe(self._pid)
        while not self._closed.wait(SECONDS_BETWEEN_SAMPLES):
            self._samples.put(probe.sample())
        probe.close()


class Probe:
    """Takes samples; each percentage is that of the time since the sample before. Used by one thread."""

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid
        self._process: psutil.Process | None = None
        self._temperature: float | None = None
        self._n_samples = 0
        self._gpus = Gpus()
        psutil.cpu_percent(None)  # The first call has no time before it.
        self._choose_process()

    def sample(self) -> SystemSample:
        trains = self._choose_process()
        process_cpu: float | None = None
        process_bytes: int | None = None
        if self._process is not None:
            with contextlib.suppress(psutil.Error):  # It may end at any moment, or belong to another user.
                process_cpu = self._process.cpu_percent(None)
                process_bytes = self._process.memory_info().rss
        memory = psutil.virtual_memory()
        if self._n_samples % SAMPLES_BETWEEN_TEMPERATURES == 0:
            self._temperature = cpu_temperature()
        self._n_samples += 1
        return SystemSample(
            pid=0 if self._process is None else self._process.pid,
            trains=trains,
            cpu_percent=psutil.cpu_percent(None),
            process_cpu_percent=process_cpu,
            process_bytes=process_bytes,
            used_bytes=memory.total - memory.available,
            total_bytes=memory.total,
            cpu_temperature=self._temperature,
            gpus=self._gpus.samples(),
        )

    def close(self) -> None:
        self._gpus.close()

    def _choose_process(self) -> bool:
        """Measure the process that trains, or else this one; return whether it trains."""
        training = self._pid()
        pid = os.getpid() if training is None else training
        if self._process is None or self._process.pid != pid:
            try:
                self._process = psutil.Process(pid)
                self._process.cpu_percent(None)
            except psutil.Error:
                self._process = None
        return training is not None


def cpu_temperature() -> float | None:
    """Return the highest temperature of the processor's sensors; None where psutil does not know it."""
    read = getattr(psutil, "sensors_temperatures", None)  # Neither Windows nor macOS has it.
    try:
        sensors = read() if read is not None else {}
    except (OSError, ValueError):  # Drivers of sensors do not always write numbers.
        return None
    for name in CPU_SENSORS:
        values = [float(sensor.current) for sensor in sensors.get(name, ()) if sensor.current]
        if values:
            return max(values)
    return None


class Gpus:
    """The NVIDIA GPUs, where there are some and nvidia-ml-py is installed."""

    def __init__(self) -> None:
        self._nvml: Any = None
        """The module of nvidia-ml-py."""
        self._handles: list[tuple[Any, str]] = []
        try:
            import pynvml
        except ImportError:
            return
        self._nvml = pynvml
        try:
            self._nvml.nvmlInit()
            for index in range(min(MOST_GPUS, self._nvml.nvmlDeviceGetCount())):
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                name = self._nvml.nvmlDeviceGetName(handle)
                self._handles.append((handle, name.decode() if isinstance(name, bytes) else str(name)))
        except self._nvml.NVMLError:  # No driver, no GPU, or no permission.
            self._handles = []

    def samples(self) -> tuple[GpuSample, ...]:
        return tuple(self._sample(handle, name) for handle, name in self._handles)

    def close(self) -> None:
        if self._handles:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _sample(self, handle: Any, name: str) -> GpuSample:
        nvml = self._nvml
        utilization = self._read(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        memory = self._read(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        milliwatts = self._read(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        temperature = self._read(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return GpuSample(
            name=name,
            used_percent=None if utilization is None else float(utilization.gpu),
            used_bytes=None if memory is None else int(memory.used),
            total_bytes=None if memory is None else int(memory.total),
            temperature=None if temperature is None else float(temperature),
            watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _read(self, read: Callable[[], Any]) -> Any:
        """Return a reading; None if this GPU does not have it."""
        try:
            return read()
        except self._nvml.NVMLError:
            return None
