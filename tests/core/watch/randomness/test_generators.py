"""Seeds are noted where they are set, draws without one are seen, and pinned generators draw the same each time."""

import copy
import random
import time
from collections.abc import Collection

import numpy as np
import pytest
import torch

from tui_lab.core.user_code import user_files
from tui_lab.core.watch.randomness import generators
from tui_lab.core.watch.randomness.generators import Generators
from tui_lab.core.watch.randomness.sources import NUMPY, OWN, PYTHON, TORCH, ScriptSource


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Python, numpy and torch their functions back after a test, whose file counts as the user's."""
    for place, name in (
        (random, "seed"),
        (random.Random, "seed"),
        (np.random, "seed"),
        (np.random, "default_rng"),
        *((np.random, name) for name in generators._NUMPY_CLASSES),
        (torch, "Generator"),
        (torch, "seed"),
        (torch, "manual_seed"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))
    monkeypatch.setattr(generators, "is_user_code", lambda file: file == __file__)
    assert user_files.is_user_code(__file__)


def installed(pins: Collection[str] = (), seed: int = 0) -> tuple[Generators, list[ScriptSource]]:
    own: list[ScriptSource] = []
    watched = Generators(dict.fromkeys(pins, seed), own.append)
    watched.install()
    return watched, own


def by_kind(watched: Generators) -> dict[str, ScriptSource]:
    return {source.kind: source for source in watched.sources()}


def test_seeds_are_noted_with_their_values_and_places() -> None:
    watched, _ = installed()
    random.seed("text")
    np.random.seed(5)
    torch.manual_seed(7)
    sources = by_kind(watched)
    assert [(source.seeds[0].call, source.seeds[0].value) for source in sources.values()] == [
        ("random.seed", "text"),
        ("np.random.seed", "5"),
        ("torch.manual_seed", "7"),
    ]
    assert all(__name__.rpartition(".")[2] in source.seeds[0].place for source in sources.values())
    assert torch.initial_seed() == 7 and torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(7))


def test_a_draw_before_the_seed_leaves_a_generator_free_and_a_later_one_does_not() -> None:
    watched, _ = installed()
    np.random.rand()
    np.random.seed(0)
    torch.manual_seed(0)
    torch.rand(1)
    sources = by_kind(watched)
    assert (sources[NUMPY].is_free, sources[NUMPY].is_drawn) == (True, True)
    assert (sources[TORCH].is_free, sources[TORCH].is_drawn) == (False, True)
    assert (sources[PYTHON].is_free, sources[PYTHON].is_drawn) == (False, False)


def test_pinned_generators_draw_the_same_numbers_in_each_run() -> None:
    draws = []
    for _ in range(2):
        watched, _ = installed([PYTHON, NUMPY, TORCH])
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
        assert all(source.is_free for source in watched.sources())
    installed([PYTHON, NUMPY, TORCH], seed=1)
    assert all(a != b for a, b in zip(draws[0], (random.random(), np.random.rand(), torch.rand(1).item()), strict=True))
    assert draws[0] == draws[1]


def test_seeds_from_the_system_differ_unless_they_are_pinned() -> None:
    def seeds(pins: Collection[str] = ()) -> tuple[list[str], list[str], tuple[int, int, float]]:
        watched, _ = installed(pins)
        random.seed()
        np.random.seed(None)
        seed = torch.seed()
        noted = [source.seeds[0] for source in watched.sources()]
        assert not any(call.is_given for call in noted)
        draws = (seed, torch.initial_seed(), random.random() + np.random.rand())
        return [call.value for call in noted], [call.key for call in noted], draws

    values, keys, draws = seeds()
    others, same_keys, other_draws = seeds()
    assert keys == same_keys and draws[0] == draws[1] and str(draws[0]) == values[2]
    assert all(a != b for a, b in zip(values, others, strict=True)) and draws != other_draws
    assert seeds(keys)[2] == seeds(keys)[2]


def test_a_seed_of_the_clock_is_replaced_where_it_is_pinned() -> None:
    watched, _ = installed()
    for pins in ([], [by_kind(watched)[TORCH].key], ["seed:torch.manual_seed:elsewhere, line 1"]):
        installed(pins)
        torch.manual_seed(time.time_ns() % 2**31 + 1)
        assert torch.initial_seed() != 0


def test_generators_that_the_script_makes_without_a_seed_are_named_and_can_be_pinned() -> None:
    def drawn(pins: Collection[str] = ()) -> tuple[list[ScriptSource], float, float]:
        _, own = installed(pins)
        numbers = (np.random.default_rng().random(), random.Random().random())
        seeded = (np.random.default_rng(3).random(), np.random.default_rng(seed=3).random(), random.Random(3).random())
        assert seeded[0] == seeded[1]
        return own, *numbers

    own, *first = drawn()
    assert [(source.kind, source.call) for source in own] == [
        (OWN, "np.random.default_rng()"),
        (OWN, "random.Random()"),
    ]
    assert drawn()[1:] != tuple(first)
    keys = [source.key for source in own]
    assert drawn(keys)[1:] == drawn(keys)[1:]


def test_a_generator_that_a_line_makes_again_and_again_is_passed_on_once() -> None:
    _, own = installed()
    for _ in range(3):
        np.random.default_rng()
    assert len(own) == 1


def test_objects_that_generate_numbers_are_seen_and_stay_what_they_are() -> None:
    def drawn(pins: Collection[str] = ()) -> tuple[dict[str, ScriptSource], tuple[float, ...]]:
        watched, own = installed(pins)
        state = np.random.RandomState()
        bits = np.random.Generator(np.random.PCG64())
        torch_generator = torch.Generator()
        torch_generator.seed()
        numbers = (state.random(), bits.random(), torch.rand(1, generator=torch_generator).item())
        assert np.random.RandomState(3).random() == copy.deepcopy(np.random.RandomState(3)).random()
        assert isinstance(torch.default_generator, torch.Generator) and isinstance(state, np.random.RandomState)
        return {source.key: source for source in [*own, *watched.sources()] if source.kind == OWN}, numbers

    sources, numbers = drawn()
    assert [source.call for source in sources.values()][:2] == ["np.random.RandomState()", "np.random.PCG64()"]
    (seeded,) = [source for source in sources.values() if source.call == "torch.Generator()"]
    assert [call.call for call in seeded.seeds] == ["torch.Generator.seed"] and not seeded.is_free
    assert all(a != b for a, b in zip(numbers, drawn()[1], strict=True))
    keys = [*sources, *(call.key for call in seeded.seeds)]
    assert drawn(keys)[1] == drawn(keys)[1]
