"""The most that torch's allocator has given out at once, in each phase of a step."""

import time
from typing import Any, Protocol

import torch
from torch.autograd.profiler import profile

from tui_lab.core.watch.memory.step_memory import Phase

_MEMORY = "[memory]"
"""The profiler's name for what is allocated or freed."""


class Meter(Protocol):
    """Measures from `begin` to `end`; `enter` is called when a phase begins. Bytes."""

    def begin(self, held: int) -> None:
        """A step begins, with tensors of `held` bytes."""
        ...

    def enter(self, phase: Phase) -> None: ...

    def end(self) -> dict[Phase, int] | None:
        """The step has ended: return the most in each phase, None if it is not known."""
        ...

    @property
    def reserved(self) -> int | None:
        """The most that the allocator has taken from the device, None if it does not tell."""
        ...


def meter_of(device: str) -> Meter:
    """Return what measures tensors on a type of device."""
    if device == "cuda":
        return CudaMeter()
    return CpuMeter() if device == "cpu" else NoMeter()


class NoMeter:
    """For a device whose allocator does not tell its most."""

    reserved = None

    def begin(self, held: int) -> None:
        pass

    def enter(self, phase: Phase) -> None:
        pass

    def end(self) -> None:
        return None


class CudaMeter:
    """Reads the statistics of CUDA's allocator on all devices."""

    def __init__(self) -> None:
        self._phase: Phase = "between"
        self._most: dict[Phase, int] = {}

    @property
    def reserved(self) -> int | None:
        return sum(torch.cuda.max_memory_reserved(i) for i in range(torch.cuda.device_count()))

    def begin(self, held: int) -> None:
        self._phase = "between"
        self._most = {}
        self._reset()

    def enter(self, phase: Phase) -> None:
        self._read()
        self._phase = phase
        self._reset()

    def end(self) -> dict[Phase, int]:
        self._read()
        return self._most

    def _read(self) -> None:
        most = sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
        self._most[self._phase] = max(self._most.get(self._phase, 0), most)

    def _reset(self) -> None:
        for i in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(i)


class CpuMeter:
    """Follows the allocations of a step with torch's profiler, since the allocator for CPUs keeps no count.

    The time tells the phases apart.
    """

    reserved = None

    def __init__(self) -> None:
        self._held = 0
        self._began: list[tuple[int, Phase]] = []
        """When each phase has begun, in nanoseconds since 1970, as the profiler counts."""
        self._profile: profile | None = None

    def begin(self, held: int) -> None:
        self._held = held
        self._began = []
        if torch.autograd.profiler._is_profiler_enabled:  # The script's own; there can be only one.
            return
        # torch.profiler would import torch._inductor, which takes seconds.
        self._profile = profile(profile_memory=True)
        self._profile.__enter__()  # type: ignore[no-untyped-call]

    def enter(self, phase: Phase) -> None:
        self._began.append((time.time_ns(), phase))

    def end(self) -> dict[Phase, int] | None:
        followed = self._profile
        self._profile = None
        if followed is None:
            return None
        followed.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        events: list[Any] = [] if followed.kineto_results is None else list(followed.kineto_results.events())
        changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == _MEMORY]
        # Torch 2.13 crashes if a result is freed after the next profile has begun.
        events.clear()
        followed.kineto_results = None
        return most_by_phase(self._held, changes, self._began)


def most_by_phase(held: int, changes: list[tuple[int, int]], began: list[tuple[int, Phase]]) -> dict[Phase, int]:
    """Return the most in each phase. held: at first. changes: each with its time. began: when each phase did."""
    phase: Phase = "between"
    now = held
    most: dict[Phase, int] = {phase: now}
    waiting = sorted(began, reverse=True)
    for when, change in sorted(changes, key=lambda each: each[0]):
        while waiting and waiting[-1][0] <= when:
            _, phase = waiting.pop()
            most[phase] = max(most.get(phase, 0), now)
        now += change
        most[phase] = max(most.get(phase, 0), now)
    return most
