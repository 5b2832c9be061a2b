"""The samples of the machine in the last ten minutes, by what they measure."""

from collections import deque
from dataclasses import dataclass, field

from tui_lab.app.session.messages import GpuSample, SystemSample

N_SAMPLES = 600
"""Ten minutes, at one sample a second."""
Values = deque[float]


@dataclass
class SystemHistory:
    """Call `add` with the samples in order. series: values by name; those of GPU 1 end with `/1`.

    Names: cpu, process (percent), memory, used_memory (bytes), cpu_temperature, gpu (percent), gpu_memory (bytes),
    gpu_temperature, gpu_watts.
    """

    latest: SystemSample | None = None
    series: dict[str, Values] = field(default_factory=dict)

    def add(self, sample: SystemSample) -> None:
        if self.latest is not None and self.latest.pid != sample.pid:
            for name in ("process", "memory"):
                self.series.pop(name, None)
        self.latest = sample
        self._add("cpu", sample.cpu_percent)
        self._add("process", sample.process_cpu_percent)
        self._add("memory", sample.process_bytes)
        self._add("used_memory", sample.used_bytes)
        self._add("cpu_temperature", sample.cpu_temperature)
        for index, gpu in enumerate(sample.gpus):
            self._add_gpu(gpu, index)

    def _add_gpu(self, gpu: GpuSample, index: int) -> None:
        self._add(f"gpu/{index}", gpu.used_percent)
        self._add(f"gpu_memory/{index}", gpu.used_bytes)
        self._add(f"gpu_temperature/{index}", gpu.temperature)
        self._add(f"gpu_watts/{index}", gpu.watts)

    def _add(self, name: str, value: float | None) -> None:
        if value is not None:
            self.series.setdefault(name, deque(maxlen=N_SAMPLES)).append(value)
