"""The screen that finds a learning rate, over a test whose losses the test delivers."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.app.fake import Lab, lab
from tests.app.script import script_lab
from tests.core.tiny import tiny
from tui_lab.app.screens.rates import RateScreen
from tui_lab.app.session import rate_search
from tui_lab.app.session.messages import Waiting
from tui_lab.app.session.rate_search import ChildRateSearch, Ended, LossAtRate, RateMessage, ScriptRateSearch
from tui_lab.app.session.source import Role
from tui_lab.core import commands as cmd
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.training.range_points import rates_between
from tui_lab.core.watch.rate_test.rated_group import RatedGroup, groups_line
from tui_lab.text.rate_text import FOR_THE_START, loss_line, progress_line, waiting_line

RATES = rates_between(1e-6, 1.0, 100)


class FakeSearch:
    def __init__(self) -> None:
        self.started: list[int] = []
        self.items: list[RateMessage] = []
        self.closed = False

    def start(self, seed: int) -> None:
        self.started.append(seed)

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
    monkeypatch.setattr(rate_search, "ChildRateSearch", lambda *arguments, **options: search)
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
        search.items = [LossAtRate(0, rate, loss) for rate, loss in zip(RATES, losses(), strict=True)]
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
        search.items = [LossAtRate(0, rate, loss) for rate, loss in zip(RATES, losses(), strict=True)]
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


async def test_time_before_the_first_update_is_shown_until_it_comes() -> None:
    now = 0.0
    search = FakeSearch()
    async with lab() as it:
        screen = RateScreen("adamw", "the script's first steps", search, "", clock=lambda: now)
        await it.pilot.app.push_screen(screen)
        now = 75.0
        screen.tick()
        await it.pilot.pause()
        assert waiting_line(75) in it.painted()
        search.items = [LossAtRate(0, rate, 1.0) for rate in RATES[:3]]
        screen.tick()
        await it.pilot.pause()
        assert progress_line(screen.curves[-1], 100) in it.painted()


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 50), marks=pytest.mark.slow)])
async def test_result_of_a_script_names_the_group_and_the_weights_in_full(size: tuple[int, int]) -> None:
    search = FakeSearch()
    groups = (RatedGroup(1, "AdamW", 1, "", 2, 1.0), RatedGroup(1, "AdamW", 2, "", 2, 10.0))
    async with lab(size=size) as it:
        screen = RateScreen("", "the script's first steps", search, "")
        await it.pilot.app.push_screen(screen)
        search.items = [LossAtRate(0, rate, loss) for rate, loss in zip(RATES, losses(), strict=True)]
        search.items.append(Ended(diverged="the loss rose far above that at the start", groups=groups))
        screen.tick()
        await it.pilot.pause()
        region = screen.query_one("#result").region
        lines = it.painted().splitlines()[region.y : region.bottom]
        painted = " ".join(line[region.x : region.right].strip() for line in lines)
        assert groups_line(groups) in painted and FOR_THE_START in painted
        assert loss_line(screen.curves[0]) in painted and "…" not in painted


async def test_script_that_has_not_made_a_step_is_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[ScriptConfig] = []

    def search_of(config: ScriptConfig, *, one_thread: bool) -> FakeSearch:
        tested.append(config)
        return FakeSearch()

    monkeypatch.setattr(rate_search, "ScriptRateSearch", search_of)
    config = ScriptConfig(command=("train.py",), folder=str(tmp_path))
    async with script_lab(tmp_path, steps=-1) as it:
        await it.tell(Waiting("train-1", str(tmp_path), 75.0, config))
        await it.press("F")
        assert tested == [config]


@pytest.mark.parametrize("role", ["training", "replay"])
async def test_script_that_trains_gets_the_chosen_rate(
    role: Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = FakeSearch()
    monkeypatch.setattr(rate_search, "ScriptRateSearch", lambda *arguments, **options: search)
    async with script_lab(tmp_path, steps=2, role=role) as it:
        await it.press("F")
        screen = it.pilot.app.screen
        assert isinstance(screen, RateScreen) and search.started == [0]
        search.items = [LossAtRate(0, rate, loss) for rate, loss in zip(RATES, losses(), strict=True)]
        search.items.append(Ended())
        screen.tick()
        suggestion = screen.rate
        last = it.screen.state.last
        assert suggestion is not None and last is not None
        await it.press("enter")
        changes = [command for command in it.source.sent if isinstance(command, cmd.Set)]
        if role == "training":
            assert changes == [cmd.Set("optim.lr_factor", pytest.approx(suggestion / last.lr, rel=0.005))]
        else:  # Nothing trains.
            assert changes == [] and it.pilot.app.screen is screen


@pytest.mark.slow
def test_script_of_a_run_is_measured_or_its_error_is_shown(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "model = torch.nn.Linear(3, 1)\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=0.1)\n"
        "while True:\n"
        "    optimizer.zero_grad()\n"
        "    model(torch.ones(4, 3)).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        "utf-8",
    )
    for command, is_error in ((("train.py",), False), (("none.py",), True)):
        search = ScriptRateSearch(ScriptConfig(command=command, folder=str(tmp_path)), one_thread=True)
        search.start(0)
        search._work.join()
        *points, end = search.drain()
        assert isinstance(end, Ended) and bool(end.error) is is_error
        assert bool(points) is not is_error


@pytest.mark.slow
def test_closing_ends_a_script_before_its_first_step(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\nopen('began', 'w').close()\ntime.sleep(600)\n", "utf-8")
    search = ScriptRateSearch(ScriptConfig(command=("train.py",), folder=str(tmp_path)), one_thread=True)
    search.start(0)
    search.close()  # Waits for the thread, which waits for the process.
    assert [type(message) for message in search.drain()] == [Ended]


@pytest.mark.slow
def test_child_process_measures_and_an_invalid_config_is_an_error() -> None:
    for config, is_error in ((tiny("optim.lr=0.01"), False), (tiny("train.device=mps"), True)):
        search = ChildRateSearch(config, one_thread=True)
        search.start(0)
        search._work.join()
        *points, end = search.drain()
        assert isinstance(end, Ended) and bool(end.error) is is_error
        assert bool(points) is not is_error


def test_a_test_that_is_closed_before_its_process_exists_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for the thread, so it would hang if the process were not killed."""
    closing = threading.Event()

    def process(*arguments: object) -> list[str]:
        closing.wait()
        return [sys.executable, "-c", "import time; time.sleep(3600)"]

    monkeypatch.setattr(rate_search, "python_module", process)
    search = ChildRateSearch(tiny(), one_thread=True)
    search.start(0)
    set_stopped = search._stopped.set

    def stopped() -> None:
        set_stopped()
        closing.set()

    monkeypatch.setattr(search._stopped, "set", stopped)
    search.close()
    assert [type(message) for message in search.drain()] == [Ended]


def test_an_unexpected_error_is_the_end_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_search, "python_module", lambda *arguments: ["/does/not/exist"])
    search = ChildRateSearch(tiny(), one_thread=True)
    search.start(0)
    search._work.join()
    (end,) = search.drain()
    assert isinstance(end, Ended) and end.error
