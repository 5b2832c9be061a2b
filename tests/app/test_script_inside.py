"""Looking inside the model of a watched script: what is asked of its process, and what the screen says."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.app.fake import Lab
from tests.app.script import batch, script_lab
from tests.app.session.helpers import MAX_TURNS
from tui_lab.app.screens.inside.screen import InsideScreen
from tui_lab.app.session.source import Role
from tui_lab.core import commands as cmd
from tui_lab.core.inside.results import LogitLens, LookResult
from tui_lab.core.watch.answers.inside_answers import InsideAnswer, write_inside
from tui_lab.core.watch.batch.recorded_batch import write_batch


async def settle(it: Lab, screen: InsideScreen, done: Callable[[], bool]) -> None:
    """Let the threads of the app work until `done`."""
    for _ in range(MAX_TURNS):
        it.now[0] += 1.0
        screen.tick()
        await it.pilot.pause()
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition was never met")


async def opened(it: Lab) -> InsideScreen:
    await it.press("I")
    screen = it.pilot.app.screen
    assert isinstance(screen, InsideScreen)
    screen.tick()
    return screen


def text(screen: InsideScreen, selector: str) -> str:
    widget = screen.query_one(selector)
    return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))


def answer(folder: Path, command: cmd.Command, result: LookResult, *, batch_step: int, seconds: float = 0.01) -> None:
    """Answer as the process of the script does."""
    assert isinstance(command, cmd.LookInside)
    at = batch(batch_step)
    assert at.x is not None and at.y is not None
    write_inside(folder, command.id, InsideAnswer(40, seconds, at.step, at.n_rows, at.x, at.y, result))


def lens_of(T: int) -> LogitLens:
    top = np.ones((2, T, 3), np.int64)
    floats = np.full((2, T), 0.25, np.float32)
    return LogitLens(
        ("embedding", "h.0"),
        "ln_f, lm_head",
        top,
        np.full((2, T, 3), 0.25, np.float32),
        floats,
        floats,
        np.ones((2, T), np.int64),
    )


async def test_lens_comes_from_the_process_of_the_script_with_its_rows(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    async with script_lab(tmp_path) as it:
        screen = await opened(it)
        [command] = it.source.sent
        assert isinstance(command, cmd.LookInside) and (command.look, command.row) == ("lens", 0)
        answer(tmp_path, command, lens_of(16), batch_step=33)
        await settle(it, screen, lambda: screen.views.drawn is not None)
        about = text(screen, "#about")
        assert "weights of step 40" in about and "row 1 of 12 of step 34" in about
        assert "ln_f, lm_head" in text(screen, "#tabs") and "layer 0" in text(screen, "#inside")
        assert not list((tmp_path / "answers").iterdir()), "the answer is removed"


async def test_classes_have_their_names_and_tokens_their_texts(tmp_path: Path) -> None:
    names = ("O", "B-PER", "I-PER")
    at = batch(33, y=np.full((12, 16), 2), n_classes=3, class_names=names)
    write_batch(tmp_path, at)
    async with script_lab(tmp_path) as it:
        screen = await opened(it)
        command = it.source.sent[-1]
        assert isinstance(command, cmd.LookInside) and at.x is not None and at.y is not None
        given = InsideAnswer(40, 0.01, at.step, at.n_rows, at.x, at.y, lens_of(16), 3, names)
        write_inside(tmp_path, command.id, given)
        await settle(it, screen, lambda: screen.views.drawn is not None)
        shown = text(screen, "#inside").splitlines()
        assert all("I-PER" in line for line in shown if line.startswith("target"))
        assert all("B-PER" in line for line in shown if line.startswith("layer"))
        assert "target I-PER has probability" in text(screen, "#value") and "likeliest: B-PER" in text(screen, "#value")
        letter = chr(ord("a") + int(at.x[0, 1]))
        assert any(line.startswith("token") and letter in line for line in shown)


async def test_ablation_asks_with_its_replacement_and_for_the_selected_row(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    async with script_lab(tmp_path) as it:
        await opened(it)
        await it.press("n", "2", "b")
        ablations = [each for each in it.source.sent if isinstance(each, cmd.LookInside) and each.look == "ablation"]
        assert [(each.row, each.how) for each in ablations] == [(1, "zero"), (1, "mean")]


async def test_model_that_cannot_be_looked_into_says_why(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    async with script_lab(tmp_path) as it:
        screen = await opened(it)
        answer(tmp_path, it.source.sent[-1], "Not available: it has no layers.", batch_step=3)
        await settle(it, screen, lambda: "it has no layers" in text(screen, "#about"))
        assert screen.views.drawn is None


async def test_costly_measurement_is_not_repeated_before_its_share_of_the_time(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    async with script_lab(tmp_path) as it:
        screen = await opened(it)
        answer(tmp_path, it.source.sent[-1], lens_of(16), batch_step=33, seconds=2.0)
        await settle(it, screen, lambda: screen.views.drawn is not None)
        began = it.now[0]
        it.screen.state.step += 1
        while it.now[0] < began + 300.0 and len(it.source.sent) == 1:
            it.now[0] += 10.0
            screen.tick()
        assert it.now[0] - began >= 150.0 and len(it.source.sent) == 2


async def test_without_a_script_that_answers_only_the_layers_are_shown(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    roles: tuple[Role, ...] = ("replay", "watching")
    async with script_lab(tmp_path) as it:
        for role in roles:
            it.source.role = role
            screen = await opened(it)
            assert screen.views.look is None and it.source.sent == [], role
            await it.press("1")
            assert "Not available" in text(screen, "#about") and it.source.sent == [], role
            await it.press("escape")
