"""The screen that compares two runs of a script, over a comparison whose messages the test delivers."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.app.fake import Lab
from tests.app.script import script_lab
from tests.core.watch.randomness.simulated import Simulated
from tui_lab.app.screens.randomness import RandomnessScreen
from tui_lab.app.session import script_comparison
from tui_lab.app.session.script_comparison import Compared, ComparisonMessage, RunBegins, ScriptComparison
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.watch.randomness.sources import PYTHON, TORCH
from tui_lab.core.watch.randomness.traced_runs import TracingStopped
from tui_lab.core.watch.randomness.verdict import judge
from tui_lab.util.child import ONE_THREAD


class FakeComparison:
    def __init__(self) -> None:
        self.items: list[ComparisonMessage] = []
        self.n_started = 0
        self.closed = False

    def start(self) -> None:
        self.n_started += 1

    def drain(self) -> Sequence[ComparisonMessage]:
        items = self.items
        self.items = []
        return items

    def close(self) -> None:
        self.closed = True


async def open_screen(it: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[RandomnessScreen, FakeComparison]:
    comparison = FakeComparison()
    monkeypatch.setattr(script_comparison, "ScriptComparison", lambda *arguments, **options: comparison)
    await it.press("6", "n")
    screen = it.pilot.app.screen
    assert isinstance(screen, RandomnessScreen)
    return screen, comparison


def shown(screen: RandomnessScreen, part: str) -> str:
    return "\n".join(
        "".join(segment.text for segment in line)
        for line in screen.query_one(part).render_lines(screen.query_one(part).size.region)
    )


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_runs_are_counted_and_the_causes_are_shown_with_their_sources(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with script_lab(tmp_path, size=size) as it:
        screen, comparison = await open_screen(it, monkeypatch)
        assert comparison.n_started == 1
        comparison.items = [RunBegins(1, "first run"), RunBegins(2, "second run")]
        screen.tick()
        assert "run 2" in shown(screen, "#result")
        comparison.items = [Compared(judge(Simulated(batch=[PYTHON], weights=[TORCH])))]  # type: ignore[arg-type]
        screen.tick()
        await it.pilot.pause()
        assert shown(screen, "#result").count("cause: ") == 2
        assert shown(screen, "#sources").count("cause") == 2
        await it.pilot.press("escape")
        assert comparison.closed and it.screen.is_current


async def test_an_error_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with script_lab(tmp_path) as it:
        screen, comparison = await open_screen(it, monkeypatch)
        comparison.items = [Compared(error="train.py: it makes no step")]
        screen.tick()
        await it.pilot.pause()
        assert "no step" in shown(screen, "#result")


class Tracer:
    """Makes no run; `result` is what judging it gives."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True


@pytest.mark.parametrize(
    ("raised", "errors"),
    [
        (None, [""]),
        (TracingStopped(), []),
        (OSError("no process"), ["no process"]),
        (KeyError("entry"), ["the comparison failed: KeyError('entry')"]),
    ],
)
def test_a_comparison_ends_with_one_message_unless_it_is_closed(
    raised: Exception | None, errors: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracers: list[Tracer] = []

    def judged(tracer: Tracer, on_run: object) -> None:
        tracers.append(tracer)
        if raised is not None:
            raise raised

    monkeypatch.setattr(script_comparison, "ScriptTracer", Tracer)
    monkeypatch.setattr(script_comparison, "judge", judged)
    (tmp_path / "train.py").touch()
    comparison = ScriptComparison(ScriptConfig(command=("train.py",), folder=str(tmp_path)), one_thread=True)
    comparison.start()
    comparison.close()
    assert [message.error for message in comparison.drain() if isinstance(message, Compared)] == errors
    assert tracers[0].is_stopped
    script = tracers[0].arguments[0]
    assert getattr(script, "variables") == ONE_THREAD  # noqa: B009 - an object to mypy.


def test_a_script_that_is_gone_is_an_error(tmp_path: Path) -> None:
    comparison = ScriptComparison(ScriptConfig(command=("train.py",), folder=str(tmp_path)), one_thread=False)
    comparison.start()
    (message,) = comparison.drain()
    comparison.close()
    assert isinstance(message, Compared) and message.verdict is None and "train.py" in message.error
