"""The questions that the app asks before it opens a run, runs a user's file, or gives up a checkpoint."""

from pathlib import Path

import pytest
import typer
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from tests.app.fake import lab
from tests.app.script import CONFIG, LETTERS
from tests.core.tiny import tiny, trainer
from tui_lab.app.app import LabApp, pick_of
from tui_lab.app.opening import untrusted_code
from tui_lab.app.screens.dialogs import Ask, Choice
from tui_lab.app.screens.home import Pick, PickKind
from tui_lab.app.screens.home_text import run_hint
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.session.session import Session
from tui_lab.cli.commands.app import open_app
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import take
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError


class RecordingApp(LabApp):
    """Keeps what it would open."""

    def __init__(self) -> None:
        super().__init__()
        self.picked: list[Pick] = []

    def _open(self, pick: Pick) -> None:
        self.picked.append(pick)


@pytest.fixture
def run() -> Run:
    return runs.create("tiny", tiny(), trainer().task.tokenizer)


def question(app: LabApp) -> str:
    return str(app.screen.query_one("#question", Static).content) if isinstance(app.screen, Ask) else ""


async def answer(pilot: Pilot[None], choice: str) -> None:
    choices = pilot.app.screen.query_one(OptionList)
    choices.highlighted = choices.get_option_index(choice)
    choices.focus()
    await pilot.press("enter")


async def test_run_of_a_script_is_replayed_and_not_resumed() -> None:
    run = runs.create("train", CONFIG, LETTERS)
    app = RecordingApp()
    async with app.run_test():
        app.open(Pick("resume", str(run.path)))
        assert app.picked == [Pick("replay", str(run.path))]


async def test_home_says_what_can_be_done_with_a_run(run: Run) -> None:
    script = runs.create("train", CONFIG, LETTERS)
    assert "resume" in run_hint(run.path) and "c: resume" not in run_hint(script.path)
    lock = take(script.path)
    assert "follow" in run_hint(script.path)
    async with LabApp().run_test() as pilot:
        await pilot.pause()
        choices = pilot.app.screen.query_one(OptionList)
        lines = [str(choices.get_option_at_index(i).prompt) for i in range(choices.option_count)]
        [line] = [line for line in lines if script.name in line]
        assert "running" in line
    lock.release()


async def test_home_keeps_its_size_after_a_dialog() -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        choices = app.screen.query_one(OptionList)
        before = choices.size
        await app.push_screen(Ask("Go on?", (Choice("yes", "Yes"),)))
        await pilot.press("escape")
        app.theme = "textual-light"  # Applies the styles that the dialog has loaded.
        await pilot.pause()
        assert app.screen is choices.screen and choices.size == before


async def test_run_of_another_process_can_be_viewed(run: Run) -> None:
    lock = take(run.path)
    app = RecordingApp()
    async with app.run_test() as pilot:
        for choice in ("cancel", "view"):
            app.open(Pick("resume", str(run.path)))
            await pilot.pause()
            assert run.name in question(app)
            await answer(pilot, choice)
        assert app.picked == [Pick("replay", str(run.path))]
        lock.release()
        app.open(Pick("resume", str(run.path)))
        assert app.picked[-1] == Pick("resume", str(run.path)), "no question once it is free"


async def test_app_starts_a_preset_with_overrides() -> None:
    app = LabApp(pick_of("reverse", ["optim.lr=0.5", "train.threads=1", "train.steps=3"]))
    async with app.run_test() as pilot:
        screen = app.screen
        assert isinstance(screen, LabScreen)
        while screen.state.config is None:
            await pilot.pause()
            screen.tick()
        assert screen.state.config.optim.lr == 0.5 and screen.state.config.train.steps == 3
        screen.source.close()
        assert screen.source.join()


@pytest.mark.parametrize(
    ("source", "override"), [("reverse", "optim.lrr=1"), ("reverse", "optim.lr=-1"), (None, "optim.lr=1")]
)
def test_bad_overrides_are_refused(source: str | None, override: str) -> None:
    with pytest.raises(ConfigError):
        pick_of(source, [override])


def test_run_takes_no_overrides(run: Run) -> None:
    assert pick_of(str(run.path)) == Pick("replay", str(run.path))
    with pytest.raises(ConfigError):
        pick_of(str(run.path), ["optim.lr=1"])


def test_file_named_on_the_command_line_is_trusted(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tui-lab app --set model.source=FILE.py:NAME` names the file, as `run --set` does."""
    opened: list[Pick | None] = []

    def run_app(source: str | None, overrides: list[str]) -> int:
        opened.append(pick_of(source, overrides))
        return 0

    monkeypatch.setattr("tui_lab.app.main.main", run_app)
    monkeypatch.setenv("TEXTUAL_DRIVER", "none")
    with pytest.raises(typer.Exit) as ended:
        open_app("reverse", [f"model.source={mine}"])
    [pick] = opened
    assert ended.value.exit_code == 0 and pick is not None
    assert untrusted_code(pick) == "" and pick.overrides == (f"model.source={mine}",)


class Unsaved(Session):
    """A run that has ended and can be saved only at the `tries`-th attempt."""

    def __init__(self, tries: int) -> None:
        self.tries = tries

    @property
    def unsaved(self) -> str | None:
        return "the disk is full" if self.tries else None

    def save_again(self) -> None:
        self.tries -= 1


@pytest.mark.parametrize(("choice", "asked_at", "left"), [("save", [2, 1], 0), ("lose", [2], 2)])
async def test_failed_save_is_tried_again_until_it_works_or_is_given_up(
    choice: str, asked_at: list[int], left: int
) -> None:
    app, source = RecordingApp(), Unsaved(2)
    async with app.run_test() as pilot:
        asking = app.run_worker(app._closer._ask_while_unsaved(source))
        for tries in asked_at:
            while source.tries != tries or not question(app):  # A thread tries to save.
                await pilot.pause()
            assert question(app) == "Not saved: the disk is full."
            await answer(pilot, choice)
        await asking.wait()
        assert source.tries == left


async def test_failed_save_pauses_and_names_the_keys_that_help() -> None:
    async with lab() as it:
        await it.tell(ev.SaveFailed(step=30, message="a: No space left; make room there", path="a"), ev.Paused(step=30))
        [notice] = [note for note in it.pilot.app._notifications if note.severity == "error"]
        assert notice.message.startswith("a: No space left") and "paused" in it.text("#status")


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text("raise SystemExit('it was run')", "utf-8")
    return f"{tmp_path / 'mine.py'}:Mine"


@pytest.mark.parametrize(
    ("kind", "choice", "opens"),
    [("preset", "run", True), ("preset", "no", False), ("resume", "no", False), ("replay", "no", True)],
)
async def test_file_is_run_only_with_permission(
    kind: PickKind, choice: str, opens: bool, mine: str, tmp_path: Path
) -> None:
    config = tiny(f"model.source={mine}")
    run = runs.create("tiny", config, trainer().task.tokenizer)
    (tmp_path / "mine.toml").write_text(settings.to_toml(config), "utf-8")
    pick = Pick(kind, str(tmp_path / "mine.toml") if kind == "preset" else str(run.path))
    app = RecordingApp()
    async with app.run_test() as pilot:
        app.open(pick)
        await pilot.pause()
        assert mine in question(app)
        await answer(pilot, choice)
        assert app.picked == ([pick] if opens else []) and trust.is_allowed(mine) == (choice == "run")
