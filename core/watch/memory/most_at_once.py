"""The most that torch's allocator has given out at once, in each phase of a step."""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch.autograd.profiler import profile

from tui_lab.core.watch.memory.moments import Change, Mark, Marks, largest_moments
from tui_lab.core.watch.memory.step_memory import Moment, Phase


class Meter(Protocol):
    """Measures from `begin` to `end`; `enter` is called when a phase begins. Bytes."""

    def begin(self, held: int, fixed: Mapping[int, int]) -> None:
        """A step begins, with tensors of `held` bytes. fixed: the bytes of gradients by address."""
        ...

    def enter(self, phase: Phase) -> None: ...

    def fixed(self, addresses: Collection[int]) -> None:
        """What lies at these addresses now does not depend on the rows of the batch."""
        ...

    def update_begins(self) -> None:
        """An optimizer begins to step."""
        ...

    def update_ended(self) -> None: ...

    def end(self) -> dict[Phase, int] | None:
        """The step has ended: return the most in each phase, None if it is not known."""
        ...

    @property
    def reserved(self) -> int | None:
        """The most that the allocator has taken from the device, None if it does not tell."""
        ...

    @property
    def moments(self) -> tuple[Moment, ...] | None:
        """After `end`: those that need most, None if they are not known."""
        ...


def meter_of(device: str) -> Meter:
    """Return what measures tensors on a type of device."""
    if device == "cuda":
        return CudaMeter()
    return CpuMeter() if device == "cpu" else NoMeter()


class NoMeter:
    """For a device whose allocator does not tell its most."""

    reserved: int | None = None
    moments: tuple[Moment, ...] | None = None

    def begin(self, held: int, fixed: Mapping[int, int]) -> None:
        pass

    def enter(self, phase: Phase) -> None:
        pass

    def fixed(self, addresses: Collection[int]) -> None:
        pass

    def update_begins(self) -> None:
        pass

    def update_ended(self) -> None:
        pass

    def end(self) -> dict[Phase, int] | None:
        return None


class CudaMeter(NoMeter):
    """Reads the statistics of CUDA's allocator on all devices. It tells the most, but not what is there then."""

    def __init__(self) -> None:
        self._phase: Phase = "between"
        self._most: dict[Phase, int] = {}

    @property
    def reserved(self) -> int | None:  # type: ignore[override]
        return sum(torch.cuda.max_memory_reserved(i) for i in range(torch.cuda.device_count()))

    def begin(self, held: int, fixed: Mapping[int, int]) -> None:
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
        self.moments: tuple[Moment, ...] | None = None
        self._held = 0
        self._marks = Marks()
        self._update_began: int | None = None
        self._began: list[tuple[int, Phase]] = []
        """When each phase has begun, in nanoseconds since 1970, as the profiler counts."""
        self._profile: profile | None = None

    def begin(self, held: int, fixed: Mapping[int, int]) -> None:
        self._held = held
        self._marks = Marks(fixed)
        self._began = []
        if torch.autograd.profiler._is_profiler_enabled:  # The script's own; there can be only one.
            return
        # torch.profiler would import torch._inductor, which takes seconds.
        self._profile = profile(profile_memory=True)
        self._profile.__enter__()  # type: ignore[no-untyped-call]

    def enter(self, phase: Phase) -> None:
        self._began.append((time.time_ns(), phase))

    def fixed(self, addresses: Collection[int]) -> None:
        self._marks.marks.append(Mark(time.time_ns(), frozenset(addresses)))

    def update_begins(self) -> None:
        self._update_began = time.time_ns()

    def update_ended(self) -> None:
        if self._update_began is not None:
            self._marks.updates.append((self._update_began, time.time_ns()))

    def end(self) -> dict[Phase, int] | None:
        followed = self._profile
        self._profile = None
        if followed is None:
            return None
        followed.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        # Torch 2.13 crashes if a result is freed after the next profile has begun.
        results: Any = followed.kineto_results
        followed.kineto_results = None
        changes = [] if results is None else list(_changes(results.experimental_event_tree()))
        del results
        self.moments = largest_moments(self._held, changes, self._marks)
        return most_by_phase(self._held, [(each.when, each.bytes) for each in changes], self._began)


def _changes(events: list[Any]) -> Iterator[Change]:
    """Yield what is allocated and freed in the events of a profile and in those inside them."""
    kind = torch._C._profiler._EventType.Allocation
    waiting = events[::-1]
    while waiting:
        event = waiting.pop()
        waiting += reversed(event.children)
        if event.tag == kind:
            yield Change(event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size)


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
