"""The screen that finds a learning rate, over a test whose losses the test delivers."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.app.fake import Lab, lab
from tests.core.tiny import tiny
from tui_lab.app.screens.rates import RateScreen
from tui_lab.app.session import rate_search
from tui_lab.app.session.rate_search import ChildRateSearch, Ended, Measured, RateMessage
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.training.range_points import rates_between

RATES = rates_between(1e-6, 1.0, 100)


class FakeSearch:
    def __init__(self, **options: object) -> None:
        self.started: list[int] = []
        self.items: list[RateMessage] = []
        self.closed = False

    def start(self, config: Config) -> None:
        self.started.append(config.train.seed)

    def drain(self) -> Sequence[RateMessage]:
        items, self.items = self.items, []
        return items

    def close(self) -> None:
        self.closed = True


def losses() -> list[float]:
    """A fall around 1e-3 with its minimum at about 2e-2, then a divergence."""
    decades = np.log10(RATES)
    return [float(loss) for loss in 3 - 2 / (1 + np.exp(-(decades + 3) * 4)) + np.exp((decades + 1) * 6)]


async def open_screen(it: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[RateScreen, FakeSearch]:
    search = FakeSearch()
    monkeypatch.setattr(rate_search, "ChildRateSearch", lambda **options: search)
    await it.press("F")
    screen = it.pilot.app.screen
    assert isinstance(screen, RateScreen)
    return screen, search


async def test_enter_takes_the_suggestion_into_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as it:
        screen, search = await open_screen(it, monkeypatch)
        assert search.started == [0]
        await it.pilot.press("enter")
        assert it.pilot.app.screen is screen  # Nothing is suggested yet.
        search.items = [Measured(0, rate, loss) for rate, loss in zip(RATES, losses(), strict=True)]
        search.items.append(Ended())
        screen.tick()
        assert screen.rate == pytest.approx(1e-3, rel=0.3)
        suggestion = screen.rate
        await it.press("enter")
        assert search.closed and it.screen.is_current
        assert it.screen.config_pane.key == "optim.lr" and "F finds one" in it.text("#about")
        assert [command for command in it.source.sent if isinstance(command, cmd.Set)] == [
            cmd.Set("optim.lr", suggestion)
        ]


async def test_cursor_keys_choose_another_rate_and_n_repeats_with_the_next_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with lab(size=(80, 24)) as it:
        screen, search = await open_screen(it, monkeypatch)
        search.items = [Measured(0, rate, loss) for rate, loss in zip(RATES, losses(), strict=True)]
        search.items.append(Ended())
        screen.tick()
        suggestion = screen.rate
        assert suggestion is not None
        await it.pilot.press("right", "right", "right")
        assert screen.rate is not None and screen.rate > suggestion
        await it.pilot.press("n")
        assert search.started == [0, 1] and len(screen.curves) == 2
        search.items = [Ended(error="out of memory")]
        screen.tick()
        await it.pilot.pause()
        assert "out of memory" in it.painted()
        await it.press("escape")
        assert it.screen.is_current
        assert not [command for command in it.source.sent if isinstance(command, cmd.Set)]


@pytest.mark.slow
def test_child_process_measures_and_an_invalid_config_is_an_error() -> None:
    search = ChildRateSearch(one_thread=True)
    for config, is_error in ((tiny("optim.lr=0.01"), False), (tiny("train.device=mps"), True)):
        search.start(config)
        assert search._thread is not None
        search._thread.join()
        *points, end = search.drain()
        assert isinstance(end, Ended) and bool(end.error) is is_error
        assert bool(points) is not is_error
