"""Watch the generators of a script in its process, from before its first line, and pin some of them."""

import functools
import os
import random
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from tui_lab.core.user_code.shown_file import shown_file
from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.process.script_process import when_imported
from tui_lab.core.watch.randomness.sources import NUMPY, OWN, PYTHON, TORCH, ScriptSource, SeedCall
from tui_lab.core.watch.variables.frames import user_frames

_NUMPY_CLASSES = ("RandomState", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64", "SeedSequence")


class Generators:
    """Replaces the functions that seed generators by ones that note the call.

    pins: the keys of sources and of calls that get a seed, each with it.
    on_source: gets each generator that the script itself makes without a seed, also in a worker of a DataLoader.
    """

    def __init__(self, pins: Mapping[str, int], on_source: Callable[[ScriptSource], None]) -> None:
        self._pins = pins
        self._on_source = on_source
        self._pid = os.getpid()
        self._sources: dict[str, ScriptSource] = {}
        self._passed_on: set[str] = set()
        """The keys of the sources that `on_source` has got."""
        self._states: dict[str, Callable[[], Any]] = {}
        """Return the present state of each generator."""
        self._first: dict[str, Any] = {}
        """The state of each, before anything was drawn from it."""

    def install(self) -> None:
        """Take effect: now for Python's generator, and when the script imports them for those of numpy and torch."""
        self._add(PYTHON, random.seed, random.getstate)
        self._replace_seed(random, "seed", "random.seed", PYTHON)
        self._replace_own_python()
        when_imported("numpy", self._install_numpy)
        when_imported("torch", self._install_torch)

    def sources(self) -> list[ScriptSource]:
        """Return the global generators that were imported, as they are now."""
        for kind in self._states:
            self._look(kind)
        return list(self._sources.values())

    def _install_numpy(self) -> None:
        import numpy as np

        def state() -> Any:
            _, key, position, *_ = np.random.get_state()
            return np.asarray(key).tobytes(), position

        self._add(NUMPY, np.random.seed, state)
        self._replace_seed(np.random, "seed", "np.random.seed", NUMPY)
        self._replace_own(np.random, "default_rng", "np.random.default_rng()")
        for name in _NUMPY_CLASSES:
            self._replace_class(np.random, name)

    def _install_torch(self) -> None:
        import torch

        manual_seed = torch.manual_seed
        self._add(TORCH, manual_seed, lambda: torch.get_rng_state().numpy().tobytes())
        self._replace_seed(torch, "manual_seed", "torch.manual_seed", TORCH)
        self._replace_seed(torch, "seed", "torch.seed", TORCH, lambda seed: manual_seed(seed).initial_seed())
        self._replace_torch_generator(torch)

    def _add(self, kind: str, seed: Callable[[int], Any], state: Callable[[], Any]) -> None:
        if kind in self._pins:
            seed(self._pins[kind])
        self._sources[kind] = ScriptSource(kind)
        self._states[kind] = state
        self._first[kind] = state()

    def _look(self, kind: str) -> None:
        """Note whether numbers were drawn since the latest seed."""
        source = self._sources[kind]
        if self._states[kind]() != self._first[kind]:
            source.is_drawn = True
            source.is_free = source.is_free or not source.seeds

    def _replace_seed(
        self, place: Any, name: str, call: str, kind: str, set_seed: Callable[[int], Any] | None = None
    ) -> None:
        """Replace a function that seeds the generator `kind`. set_seed: does it where the function takes no seed."""
        original: Callable[..., Any] = getattr(place, name)
        set_seed = set_seed or original

        @functools.wraps(original)
        def seed(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() != self._pid:  # A DataLoader seeds the generators of its workers.
                return original(*args, **kwargs)
            given = next(iter((*args, *kwargs.values())), None)
            value = int.from_bytes(os.urandom(4)) if given is None else given
            noted = SeedCall(call, self._place(), str(value), given is not None)
            self._look(kind)
            self._sources[kind].seeded(noted)
            if noted.key in self._pins:
                result = set_seed(self._pins[noted.key])
            else:
                result = set_seed(value) if given is None else original(*args, **kwargs)
            self._first[kind] = self._states[kind]()
            return result

        setattr(place, name, seed)

    def _replace_own(self, place: Any, name: str, call: str) -> None:
        """Replace a function that makes a generator, with a seed as its only argument."""
        original: Callable[..., Any] = getattr(place, name)

        @functools.wraps(original)
        def made(*args: Any, **kwargs: Any) -> Any:
            seed = args[0] if args else kwargs.get("seed")
            if seed is not None:
                return original(*args, **kwargs)
            pinned = self._seed_of_new(call)
            return original() if pinned is None else original(pinned)

        setattr(place, name, made)

    def _replace_own_python(self) -> None:
        original = random.Random.seed

        @functools.wraps(original)
        def seed(generator: random.Random, a: Any = None, version: int = 2) -> None:
            # Libraries make generators for file names and pauses between retries, which do not affect training.
            caller: FrameType | None = sys._getframe(1)
            while caller is not None and caller.f_globals.get("__name__") == random.__name__:
                caller = caller.f_back
            is_own = caller is not None and is_user_code(caller.f_code.co_filename)
            if a is None and is_own:
                a = self._seed_of_new("random.Random()")
            original(generator, a, version)

        setattr(random.Random, "seed", seed)  # noqa: B010 - mypy refuses to assign a method.

    def _replace_class(self, place: Any, name: str) -> None:
        """Replace a class of generators whose first argument is a seed; other objects of it stay its instances."""
        original: Any = getattr(place, name)
        watched = self

        class Made(original, metaclass=_kind_of(original)):  # type: ignore[misc, metaclass]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                is_seeded = any(value is not None for value in (*args, *kwargs.values()))
                pinned = None if is_seeded else watched._seed_of_new(f"np.random.{name}()")
                args = args if pinned is None else (pinned,)
                super().__init__(*args, **kwargs)

        setattr(place, name, _named_as(Made, name, place))

    def _replace_torch_generator(self, torch: Any) -> None:
        """Replace torch.Generator, whose objects have a constant seed until they get another one."""
        original: Any = torch.Generator
        watched = self

        class Made(original, metaclass=_kind_of(original)):  # type: ignore[misc, metaclass]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__()
                self.source: ScriptSource | None = None
                if is_user_code(sys._getframe(1).f_code.co_filename):  # A DataLoader makes some from torch's own.
                    self.source = ScriptSource(OWN, watched._place(), "torch.Generator()", is_drawn=True)

            def manual_seed(self, seed: Any) -> Any:
                return super().manual_seed(watched._seed_of(self.source, "torch.Generator.manual_seed", seed))

            def seed(self) -> int:
                drawn = int.from_bytes(os.urandom(7))
                super().manual_seed(watched._seed_of(self.source, "torch.Generator.seed", drawn, is_given=False))
                return int(self.initial_seed())

        torch.Generator = _named_as(Made, "Generator", torch)

    def _seed_of(self, source: ScriptSource | None, call: str, seed: Any, *, is_given: bool = True) -> Any:
        """Note a seed of a generator of the script's own; return the one that it gets. source: None for another one."""
        if source is None:
            return seed
        source = self._sources.setdefault(source.key, source)
        noted = SeedCall(call, self._place(), str(seed), is_given)
        source.seeded(noted)
        return self._pins.get(noted.key, seed)

    def _seed_of_new(self, call: str) -> int | None:
        """Note a generator that is made without a seed; return the one that it is to have, if any."""
        source = ScriptSource(OWN, self._place(), call, is_free=True, is_drawn=True)
        if source.key not in self._passed_on:  # An item of a data set may make one each time.
            self._passed_on.add(source.key)
            self._on_source(source)
        return self._pins.get(source.key)

    def _place(self) -> str:
        """Return the line of the user's code that runs, of a library's if there is none."""
        frame = sys._getframe(2)
        own = next(user_frames(frame), None)
        if own is None:
            return str(frame.f_globals.get("__name__", ""))
        return f"{shown_file(own.f_code.co_filename)}, line {own.f_lineno}"


def _kind_of(original: Any) -> type:
    """Return the type of a class that takes the place of `original`, so that isinstance() is as before."""

    class Kind(type(original)):  # type: ignore[misc]
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original)

    return Kind


def _named_as(made: Any, name: str, place: Any) -> Any:
    """Give a class the name under which it is found, also by pickle."""
    made.__name__ = name
    made.__qualname__ = name
    made.__module__ = place.__name__
    return made
