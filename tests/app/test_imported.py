"""The lab over an imported run: what its panes say instead of what a log does not have. At 80x24."""

from pathlib import Path

from tests.app.fake import Lab
from tests.app.run_folders import folder
from tests.app.script import script_lab, script_ready
from tests.core.recorded import update
from tests.core.runs.importing.reading import SAMPLES, sources
from tests.core.tiny import tiny
from tui_lab.app.actions import NEED_MODEL, why_not
from tui_lab.app.panes.overlays import runs_of_same_task
from tui_lab.core import events as ev
from tui_lab.core.config.script import ImportedConfig, SourceConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.importing.write_run import write_run
from tui_lab.data.tokenizers import IdTokenizer

CONFIG = ImportedConfig(source=SourceConfig(path="/old/metrics.csv", format="csv"), settings={"max_steps": 20})
STARTED = ev.Started(
    step=0, steps=0, parameters=0, n_vocab=0, train_examples=0, val_examples=0, device="", threads=0, resumed=False
)


async def shown(it: Lab, path: Path, *keys: str) -> str:
    """What is painted of the imported run after these keys."""
    await it.tell(script_ready(path, CONFIG, IdTokenizer(0)), STARTED, update(1), ev.Stopped(step=1, reason="imported"))
    await it.press(*keys)
    return it.painted()


async def test_settings_are_the_source_and_what_the_log_has(tmp_path: Path) -> None:
    async with script_lab(tmp_path, steps=-1, role="replay") as it:
        painted = await shown(it, tmp_path, "1")
        assert "/old/metrics.csv" in painted and "max_steps" in painted
        assert "lr_factor" not in painted and "0 parameters" not in painted and "script" not in painted


async def test_panes_that_need_a_model_say_that_there_is_none(tmp_path: Path) -> None:
    async with script_lab(tmp_path, steps=-1, role="replay") as it:
        for pane in ("3", "4", "6"):
            painted = await shown(it, tmp_path, pane)
            assert "imported from a log" in painted and "script" not in painted, pane


async def test_state_is_imported(tmp_path: Path) -> None:
    async with script_lab(tmp_path, steps=-1, role="replay") as it:
        await shown(it, tmp_path)
        assert "imported" in it.text("#status") and "×" not in it.text("#status")


def test_commands_that_need_a_model_do_not_apply() -> None:
    assert all(why_not(command, CONFIG) for command in NEED_MODEL)
    assert not any(why_not(command, CONFIG) for command in ("pause", "slower", "seek_back", "help", "inside"))


def test_imported_runs_are_offered_beside_every_run() -> None:
    [source] = sources(SAMPLES / "lightning")
    imported = write_run(source, runs.runs_folder() / "old", replace=False).run
    native = folder("native", 1.0)
    assert [row.name for row in runs_of_same_task(tiny(), native.path)] == ["old"]
    assert [row.name for row in runs_of_same_task(imported.config(), imported.path)] == ["native"]
