"""A lesson notices the run of a script that is started in another terminal."""

from pathlib import Path

from tests.app.script import CONFIG
from tui_lab.app.learn.script_runs import ScriptRuns
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files


def record(folder: Path, config: Config | ScriptConfig) -> Path:
    folder.mkdir(parents=True)
    (folder / run_files.CONFIG).write_text(runs.config_text(config), "utf-8")
    return folder


def test_new_run_of_a_script_is_noticed_in_either_folder(tmp_path: Path) -> None:
    record(runs.runs_folder() / "old", CONFIG)
    now = [0.0]
    waiting = ScriptRuns(tmp_path / "lesson", lambda: now[0])
    assert waiting.poll() is None
    own = record(tmp_path / "lesson" / "new", CONFIG)
    assert waiting.poll() is None, "a look at every tick would cost too much"
    now[0] = 2.0
    assert waiting.poll() == own
    elsewhere = ScriptRuns(tmp_path / "lesson", lambda: now[0])
    record(runs.runs_folder() / "preset", settings.load("reverse"))
    assert elsewhere.poll() is None
    script = record(runs.runs_folder() / "script", CONFIG)
    now[0] = 4.0
    assert elsewhere.poll() == script
