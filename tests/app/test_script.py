"""The lab over the run of a script: what it shows, what it can steer, and why not the rest. At 80x24."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import DataTable, Input, Static

from tests.app.fake import Lab, help_text, update
from tests.app.script import CONFIG, LETTERS, batch, samples_config, script_lab, script_ready, without
from tests.app.script import STARTED as SCRIPT_STARTED
from tests.app.session.helpers import MAX_TURNS
from tui_lab.app import actions, shutdown
from tui_lab.app.actions import COMMANDS
from tui_lab.app.panes.config import ConfigPane
from tui_lab.app.panes.doctor import DoctorPane
from tui_lab.app.panes.edited_settings import NOT_STEERED, READ_ONLY
from tui_lab.app.panes.setting_text import about_text, keys_of
from tui_lab.app.screens.attention import AttentionScreen
from tui_lab.app.screens.dialogs import Ask
from tui_lab.app.screens.help import LIVE_SETTINGS, Help, script_page
from tui_lab.app.session.doctor_thread import DoctorThread
from tui_lab.app.session.messages import Printed, SessionFailed, Waiting
from tui_lab.app.session.source import Role
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import Chart
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import BY_HAND, OF_OPTIMIZERS, ScriptTrainConfig
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.sampling import Generated
from tui_lab.core.watch.answers import answer_files as answers
from tui_lab.core.watch.batch.recorded_batch import write_batch
from tui_lab.data.tokenizers import IdTokenizer


def log_of(it: Lab) -> str:
    return "\n".join(strip.text for strip in it.screen.query_one("#log").lines)  # type: ignore[attr-defined]


def notices(it: Lab) -> list[str]:
    return [notice.message for notice in it.pilot.app._notifications]


async def test_before_the_first_step_the_lab_shows_output_and_can_be_left(tmp_path: Path) -> None:
    async with script_lab(tmp_path, steps=-1) as it:
        await it.press("q")
        question = it.pilot.app.screen
        assert isinstance(question, Ask)
        assert "opened" in str(question.query_one("#question", Static).content)
        await it.pilot.press("escape")
        await it.tell(Waiting("train-1", str(tmp_path), 75.0), Printed(("loading data",)))
        status = it.text("#status")
        assert "no step yet" in status and "1:15" in status and "train-1" in status
        await it.press("5")
        assert "loading data" in log_of(it)
        await it.press("space")
        assert it.source.sent == [cmd.Pause()]
        await it.press("space", "q")
        question = it.pilot.app.screen
        assert isinstance(question, Ask)
        assert "starting" in str(question.query_one("#question", Static).content)
        line = shutdown.followed_line(it.screen)
        assert line is not None and "step 0" not in line
        await it.pilot.press("escape")
        await it.tell(script_ready(tmp_path), SCRIPT_STARTED, update(1))
        assert "running" in it.text("#status") and "step 1 " in it.text("#status")


async def test_pause_before_the_first_step_is_shown_and_can_be_withdrawn(tmp_path: Path) -> None:
    async with script_lab(tmp_path, steps=-1) as it:
        await it.press("space")  # While the run is opened.
        await it.tell()
        assert "pauses" in it.text("#status") and it.source.sent == [cmd.Pause()]
        await it.tell(Waiting("train-1", str(tmp_path), 0.5))
        assert "pauses after the first step" in it.text("#status") and "Cancel pause" in it.painted()
        await it.press("space")
        await it.tell(Waiting("train-1", str(tmp_path), 76.0))
        assert "pauses" not in it.text("#status") and "Cancel pause" not in it.painted()
        assert it.source.sent == [cmd.Pause(), cmd.Resume()]
        await it.press("space")  # While it waits for the first step.
        await it.tell(Waiting("train-1", str(tmp_path), 76.5))
        assert "pauses after the first step" in it.text("#status") and "Cancel pause" in it.painted()


@pytest.mark.parametrize(("steps", "key", "leaves_paused"), [(-1, "space", False), (2, "s", True)])
async def test_leaving_a_script_that_will_pause_keeps_it_running_unless_the_user_wants_it_to_pause(
    steps: int, key: str, leaves_paused: bool, tmp_path: Path
) -> None:
    async with script_lab(tmp_path, steps=steps) as it:
        if steps < 0:
            await it.tell(Waiting("train-1", str(tmp_path), 75.0))
        await it.press(key, "q")
        question = it.pilot.app.screen
        assert isinstance(question, Ask) and "pause" in str(question.query_one("#question", Static).content)
        await it.pilot.press(*(["down"] if leaves_paused else []), "enter")
        await it.pilot.pause()
        await it.pilot.app.workers.wait_for_complete()
        assert it.source.closed
        shutdown.save_all([it.screen])  # The terminal is closed before the app has ended.
        assert it.source.sent.count(cmd.Resume()) == (0 if leaves_paused else 1)
        line = shutdown.followed_line(it.screen)
        assert line is not None and ("resume it" in line) == leaves_paused


async def test_script_that_waits_for_its_first_step_offers_what_it_takes_and_shows_what_it_printed_last(
    tmp_path: Path,
) -> None:
    async with script_lab(tmp_path, steps=-1, role="watching") as it:
        await it.tell(Waiting("train-1", str(tmp_path), 1.0))
        assert "Pause" not in it.painted()
        it.source.role = "steering"
        await it.tell()
        assert "Pause" in it.painted()
        await it.press("g", "A")
        assert len(notices(it)) == 2 and it.source.sent == [], "its model is not known yet"
        failed = SessionFailed("the script ended before it made an optimizer step\nusage: train.py", is_script=True)
        await it.tell(failed)
        assert it.screen.state.phase == "failed" and "usage: train.py" in notices(it)[-1]
        assert "usage: train.py" in log_of(it) and it.screen.query_one("#events").display


async def test_what_does_not_fit_is_counted_and_what_is_not_known_is_not_shown(tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        await it.tell(ev.Logged(step=30, values={f"metric {number}": 1.0 for number in range(60)}))
        shown = it.text("#more")
        assert "metric 0 1" in shown and shown.rstrip().endswith("more") and len(shown.splitlines()) <= 3

        assert "ln V 3.332" in it.text("#chart")
        await it.tell(ev.from_json(SCRIPT_STARTED.to_json() | {"n_vocab": 0}), update(31))
        assert "ln V" not in it.text("#chart") and it.screen.state.chance_loss is None, "it needs a vocabulary"

        await it.tell(update(1234))
        status = it.text("#status")
        assert "step 1,234 " in status and "/" not in status.partition("tok/s")[0] and "ETA" not in status


async def test_a_long_name_of_a_setting_leaves_room_for_the_values(tmp_path: Path) -> None:
    name = "gradient_accumulation_steps_of_the_script"
    config = CONFIG.model_copy(update={"settings": {name: 5}})
    async with script_lab(tmp_path, config, size=(120, 40)) as it:
        table = it.screen.query_one("#settings", DataTable)
        _, first, value, _ = table.ordered_columns
        assert first.get_render_width(table) + value.get_render_width(table) < table.size.width
        assert name in about_text(config, f"settings.{name}").plain


def test_a_step_of_unknown_time_has_no_speed(tmp_path: Path) -> None:
    state = LabState()
    for message in (script_ready(tmp_path), SCRIPT_STARTED, update(1, seconds=0.0, tokens_per_s=0.0)):
        state.apply(message)
    assert state.mean_tokens_per_s is None
    state.apply(update(2, seconds=0.5))
    assert state.mean_tokens_per_s is not None and state.step_time.seconds == 0.5
    assert [step for step, _ in state.curves["tokens_per_s"].points] == [2]


async def test_samples_are_counted_where_there_are_no_tokens(tmp_path: Path) -> None:
    async with script_lab(tmp_path, samples_config()) as it:
        assert "samples/s" in it.text("#status")
        assert "samples/s" in it.text("#sparks")


async def test_loss_pane_shows_the_further_measurements_of_a_script(tmp_path: Path) -> None:
    async with script_lab(tmp_path, size=(200, 50)) as it:
        extra = {
            "script_lr": 3e-4,
            "lr/1": 1e-3,
            "memory_mib": 512.0,
            "gpu_memory_mib": 2048.0,
            "loss_scale": 65536.0,
            "skipped_steps": 2.0,
        }
        await it.tell(
            ev.Changed(step=30, key="optim.lr_factor", old=1.0, new=8.0),
            update(31, extra=extra, seconds=0.1, data_seconds=0.012, grad_norm=None),
            ev.Logged(step=31, values={"accuracy": 0.93}),
        )
        more = it.text("#more").replace("\n", " ")
        parts = ["lr 0.0003 × 8", "lr[1] 0.001", "data 12%", "memory 512 MiB", "GPU 2,048 MiB", "loss scale 65536"]
        assert [part for part in [*parts, "2 skipped steps", "accuracy 0.93"] if part not in more] == []
        assert it.screen.state.curves["grad_norm"].points[-1][0] == 30, "a gap where it was not measured"

        await it.tell(update(32, extra={}))
        later = it.text("#more")
        assert "memory 512 MiB" in later, "the memory is not measured at every step"
        assert "lr" not in later, "the script's own rate is that of the step"


LR_KEYS = {"H": cmd.Scale("optim.lr_factor", 0.5), "L": cmd.Scale("optim.lr_factor", 2.0)}


UNAVAILABLE = [command for command in COMMANDS if command.not_for_scripts and command.id != "resume"]
"""The key of "resume" saves a checkpoint while the script trains."""


async def test_keys_steer_the_script_or_say_why_it_does_not_have_them(tmp_path: Path) -> None:
    assert {command.id for command in UNAVAILABLE} >= {"evaluate", "restart", "fork", "batch_up", "shuffle"}
    steering: dict[str, cmd.Command] = {
        **LR_KEYS,
        "d": cmd.Shift("model.dropout", -0.05),
        "D": cmd.Shift("model.dropout", 0.05),
        "u": cmd.Undo(),
        "c": cmd.Save(),
        "s": cmd.Step(1),
        "S": cmd.Step(10),
        "space": cmd.Pause(),
    }
    async with script_lab(tmp_path) as it:
        await it.press(*steering)
        assert it.source.sent == list(steering.values())
        for command in UNAVAILABLE:
            await it.press(command.keys)
            assert notices(it)[-1] == command.not_for_scripts
            assert not it.screen.check_action("do", (command.id,))
        assert it.source.sent == list(steering.values())


async def test_dropout_keys_need_dropout_layers(tmp_path: Path) -> None:
    async with script_lab(tmp_path, without("model", "dropout")) as it:
        await it.press("D")
        assert it.source.sent == [] and "dropout" in notices(it)[-1]


async def test_rate_of_a_loop_that_updates_by_hand_is_not_offered(tmp_path: Path) -> None:
    optim = CONFIG.optim.model_copy(update={"name": BY_HAND, "weight_decay": None})
    async with script_lab(tmp_path, CONFIG.model_copy(update={"optim": optim})) as it:
        settings = it.screen.query_one(ConfigPane).settings
        assert settings is not None and not settings.is_live("optim.grad_clip") and settings.is_live("model.dropout")
        assert "lr×2" not in it.painted() and "Pause" in it.painted()
        titles = [command.title for command in it.pilot.app.get_system_commands(it.screen)]
        assert not any(title.startswith("Double lr") for title in titles)
        await it.press("L", "H")
        assert it.source.sent == [] and notices(it) == [actions.NO_OPTIMIZER] * 2
        await it.press("question_mark")
        help_screen = it.pilot.app.screen
        assert isinstance(help_screen, Help) and actions.NO_OPTIMIZER in help_text(help_screen)
        (steered,) = [block.plain for block in help_screen.shown if block.plain.startswith("What can be steered")]
        assert LIVE_SETTINGS["model.dropout"] in steered
        assert not any(LIVE_SETTINGS[key] in steered for key in OF_OPTIMIZERS)


async def test_palette_footer_and_help_offer_what_a_script_has(tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        titles = {c.title for c in it.pilot.app.get_system_commands(it.screen)}
        assert "Double lr (L)" in titles
        footer = {getattr(key, "description", "") for key in it.screen.query("FooterKey")}
        assert {"Pause", "lr×2", "Generate"} <= footer
        for command in UNAVAILABLE:
            assert not any(title.startswith(f"{command.title} (") for title in titles), command.id
            assert command.footer not in footer - {""}
        await it.press("question_mark")
        shown = help_text(it.pilot.app.screen)
        assert all(command.not_for_scripts in shown for command in UNAVAILABLE)
        assert all(command.help not in shown for command in UNAVAILABLE)
        assert all(name in shown for name in LIVE_SETTINGS.values())
        assert "restart or fork" in shown and "diagnose it" not in shown


async def test_live_settings_come_first_captured_ones_are_read_only_and_changes_are_shown(tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        await it.press("1")
        keys = [row.value for row in it.screen.query_one("#settings", DataTable).rows]
        live = ["model.dropout", "optim.lr_factor", "optim.weight_decay", "optim.grad_clip"]
        assert keys[:4] == live and "settings.batch_size" in keys[4:]
        assert "train.steps" not in keys, "not known"
        await it.press("down", "enter")
        value = it.screen.query_one("#value", Input)
        assert value.has_focus
        value.value = "4"
        await it.press("enter")
        assert it.source.sent == [cmd.Set("optim.lr_factor", 4)]
        await it.press(*["down"] * keys.index("settings.batch_size"), "enter")
        assert not value.has_focus and it.text("#problem") != ""
        await it.press("x")
        assert len(it.source.sent) == 1

        await it.tell(ev.Changed(step=30, key="optim.lr_factor", old=1.0, new=8.0), update(31))
        settings = it.screen.query_one(ConfigPane).settings
        assert settings is not None and settings.running.optim.lr_factor == 8.0
        assert "≠ lr_factor" in it.text("#settings")


@pytest.mark.parametrize("answer", ["detach", "stop"])
async def test_quit_detaches_or_waits_for_the_end_of_the_script(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with script_lab(tmp_path) as it:
        closed: list[Any] = []
        monkeypatch.setattr(type(it.pilot.app), "on_lab_screen_close", lambda app, message: closed.append(message))
        await it.press("q", *(["enter"] if answer == "detach" else ["down", "enter"]))
        await it.tell()
        assert it.source.sent == ([] if answer == "detach" else [cmd.Stop()])
        if answer == "stop":
            assert "stopping" in it.text("#status") and not closed
            await it.tell(ev.Stopped(step=31, reason="stopped"))
        assert len(closed) == 1


async def test_log_has_what_the_script_prints_and_its_traceback(tmp_path: Path) -> None:
    line = "a line that is longer than the least width of the log"
    async with script_lab(tmp_path) as it:
        await it.press("5")
        await it.tell(Printed(("epoch 1",), " 40%|####      |", 12_345))
        assert "12,345 bytes" in log_of(it) and "epoch 1" in log_of(it) and "40%" not in log_of(it)
        assert "40%" in it.text("#unfinished")
        await it.tell(Printed(("100%|##########|",)))
        assert not it.screen.query_one("#unfinished").display

        await it.press("2")
        await it.tell(Printed((line,)))
        await it.press("5")
        assert line in log_of(it), "not wrapped narrowly because the pane was hidden"

        await it.tell(ev.Failed(step=30, message="ValueError: oh", details="Traceback\n  File train.py, line 7"))
        assert "line 7" in log_of(it) and it.screen.state.phase == "failed"


async def test_predictions_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    top: dict[str, Any] = {
        "top": np.zeros((2, 16, 20), np.int64),
        "probabilities": np.full((2, 16, 20), 0.05, np.float32),
    }
    write_batch(tmp_path, batch(29, **top))
    async with script_lab(tmp_path) as it:
        await it.press("3")
        await settle(it, lambda: "top" in it.text("#recorded-cell"))
        last = it.text("#recorded-cell").splitlines()[-1]
        assert last.startswith("loss") and last.endswith(")") and last.count("(") < 20


async def test_script_is_diagnosed_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts: list[Any] = []
    monkeypatch.setattr(DoctorThread, "start", lambda self, config: scripts.append(config))
    async with script_lab(tmp_path) as it:
        await it.press("K")
        assert scripts == [it.screen.state.run_config] and it.screen.active_pane.number == DoctorPane.number
        await it.press("a")
        assert len(notices(it)) == 1 and it.source.sent == []


async def test_config_without_optional_settings_is_shown(tmp_path: Path) -> None:
    async with script_lab(tmp_path, without("optim", "weight_decay", "grad_clip", "lr")) as it:
        await it.press("1")
        keys = [row.value for row in it.screen.query_one("#settings", DataTable).rows]
        assert keys[:2] == ["model.dropout", "optim.lr_factor"] and "optim.lr" not in keys
        assert CONFIG.model.name in it.text("#parameters")


async def settle(it: Lab, done: Callable[[], bool]) -> None:
    """Let the threads of the lab work until `done`."""
    for _ in range(MAX_TURNS):
        await it.tell()
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition was never met")


async def test_reply_comes_from_the_process_of_the_script(tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        await it.press("g")
        [command] = it.source.sent
        assert isinstance(command, cmd.Generate) and command.prompt == "the "
        tokens = [Generated(number, LETTERS.token_bytes(number).decode(), 0.6, ()) for number in (0, 1, 2)]
        answers.write_generation(tmp_path, command.id, 30, tokens)
        pane = it.screen.generation_pane
        await settle(it, lambda: pane.replies[-1].done)
        await it.tell()
        assert "step 30 the abc" in it.text("#replies")


async def test_model_of_a_script_cannot_be_asked_after_its_end_or_without_a_way_to(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    roles: tuple[Role, ...] = ("replay", "watching")
    async with script_lab(tmp_path) as it:
        for role in roles:
            it.source.role = role
            it.pilot.app.clear_notifications()
            await it.tell()
            assert "Generate" not in it.painted().splitlines()[-1], role
            await it.press("g")
            assert it.source.sent == [] and not it.screen.generation_pane.replies, role
            assert len(notices(it)) == 1, role
            await it.press("A")
            assert it.screen.is_current and len(notices(it)) == 2, role


async def test_prompt_is_token_ids_where_their_texts_are_not_known(tmp_path: Path) -> None:
    async with script_lab(tmp_path, tokenizer=IdTokenizer(50)) as it:
        await it.press("4")
        assert it.screen.query_one("#prompt", Input).value == "0"
        write_batch(tmp_path, batch())
        await it.press("escape", "3")
        await settle(it, lambda: "y[t]" in it.text("#alignment"))
        cells = it.text("#recorded-cells").splitlines()
        assert all(cell.isdigit() for cell in cells[1].split()[1:]) and "id " in it.text("#recorded-cell")


async def test_attention_maps_come_from_the_process_of_the_script(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    async with script_lab(tmp_path) as it:
        await it.press("A")
        screen = it.pilot.app.screen
        assert isinstance(screen, AttentionScreen)
        screen.tick()
        [command] = it.source.sent
        assert isinstance(command, cmd.Attend) and command.row == 0
        write_batch(tmp_path, batch(33))
        weights = np.tril(np.ones((1, 2, 16, 16), np.float32))
        answers.write_attention(tmp_path, command.id, AttentionMaps(weights, 16))

        def shown() -> bool:
            it.now[0] += 1.0
            screen.tick()
            return screen.view.maps is not None

        await settle(it, shown)
        about = screen.query_one("#about").render_line(0).text
        assert "row 1 of 12 of step 34" in about, "the batch that the maps belong to"


async def test_script_that_gives_no_attention_maps_says_why(tmp_path: Path) -> None:
    write_batch(tmp_path, batch())
    async with script_lab(tmp_path) as it:
        await it.press("A")
        screen = it.pilot.app.screen
        assert isinstance(screen, AttentionScreen)
        screen.tick()
        [command] = it.source.sent
        assert isinstance(command, cmd.Attend)
        answers.write_attention(tmp_path, command.id, "this model has no attention")

        def shown() -> bool:
            it.now[0] += 1.0
            screen.tick()
            return "this model has no attention" in screen.query_one("#about").render_line(1).text

        await settle(it, shown)


async def test_curves_over_time_or_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    draw = Chart.draw

    def record(chart: Chart, curves: Any, **options: Any) -> None:
        drawn.append(curves)
        draw(chart, curves, **options)

    monkeypatch.setattr(Chart, "draw", record)
    async with script_lab(tmp_path) as it:
        await it.press("2")
        await it.tell(update(31))
        for name, place in (("training time in s", 0.31), ("tokens", 704 * 31)):
            await it.press("x")
            assert it.text("#chart").splitlines()[-1].endswith(name)
            train, validation = drawn[-1]
            assert train.points[-1][0] == pytest.approx(place), name
            assert validation.points[0][0] == pytest.approx(place * 30 / 31), name
        await it.press("x")
        assert drawn[-1][0].points[-1][0] == 31


async def test_reply_is_not_repeated_before_the_script_has_answered(tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        await it.press("g")
        it.screen.query_one("#every", Input).value = "1"
        await it.tell(update(31))
        await it.tell(update(32))
        assert len(it.source.sent) == 1
        it.screen.generation.stop()
        await settle(it, lambda: it.screen.generation_pane.replies[0].done)
        await it.tell(update(33))
        assert len(it.source.sent) == 2


async def test_only_what_can_be_changed_or_asked_is_offered(tmp_path: Path) -> None:
    async with script_lab(tmp_path, size=(120, 40)) as it:
        assert "Generate" in it.painted().splitlines()[-1]
        await it.press("1")
        pane = it.screen.config_pane
        assert "Enter edit" in str(pane.border_subtitle) and "p formula" not in str(pane.border_subtitle)
        it.screen.query_one("#settings", DataTable).move_cursor(row=len(keys_of(CONFIG)) - 1)
        await it.tell()
        assert pane.key == "settings.compile"
        assert "Enter edit" not in str(pane.border_subtitle) and "/ search" in str(pane.border_subtitle)
        await it.press("plus")
        assert READ_ONLY in " ".join(it.text("#problem").split())
        it.screen.query_one("#settings", DataTable).move_cursor(row=0)
        await it.tell()
        assert "Enter edit" in str(pane.border_subtitle)
        await it.tell(ev.Stopped(step=30, reason="done"))
        assert "Enter edit" not in str(pane.border_subtitle) and "Generate" not in it.painted().splitlines()[-1]
        line = it.text("#run-line")
        assert "done" in line and "R compare" in line
        assert not any(word in line for word in ("again", "train on", "generate"))
        await it.press("enter")
        assert NOT_STEERED in " ".join(it.text("#problem").split()) and it.pilot.app.focused is not None
        assert it.pilot.app.focused.id == "settings"


async def test_script_of_several_processes_offers_no_change(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"train": ScriptTrainConfig(processes=2)})
    async with script_lab(tmp_path, config, size=(200, 50)) as it:
        footer = it.painted().splitlines()[-1]
        assert "Pause" in footer and "Generate" in footer and "lr" not in footer
        await it.press("H", "D", "u")
        assert it.source.sent == [] and len(notices(it)) == 3
        await it.press("1")
        assert "processes" in it.text("#settings") and "Enter edit" not in str(it.screen.config_pane.border_subtitle)
        assert "No setting can be changed" in script_page(config)


async def test_processes_that_train_one_model_are_offered_changes(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"train": ScriptTrainConfig(processes=2, parallel="ddp")})
    async with script_lab(tmp_path, config, size=(200, 50)) as it:
        assert "lr÷2" in it.painted().splitlines()[-1]
        await it.press("H")
        assert it.source.sent == [cmd.Scale("optim.lr_factor", 0.5)]
