"""Lessons are taken with keys only, in a real terminal, and their runs show what the texts say."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.learn.walker import Walker, failed_facts
from tui_lab.core.lessons.load import BUILTIN, lesson_folders
from tui_lab.core.lessons.progress import load_progress
from tui_lab.core.lessons.schema import Stage

TINY = """
format = 1
title = "Tiny"
summary = "Two short runs"
minutes = 1

[[stage]]
id = "train"
kind = "predict"
pane = "loss"
[stage.run]
config = "reverse"
set = { "data.length" = 3, "model.d_model" = 8, "model.n_layers" = 1, "train.steps" = 8, "train.threads" = 1 }
[stage.question]
ask = "Which loss?"
kind = "number"
answer = "ln_vocab_size"
draw = { metric = "loss", step = 0 }
[[stage.fact]]
metric = "loss"
step = 0
near = "ln_vocab_size"
within = 0.3

[[stage]]
id = "rates"
kind = "try"
[[stage.trial]]
label = "lr 1"
set = { "optim.lr" = 1.0 }

[[stage]]
id = "again"
kind = "fix"
[stage.fix]
set = { "optim.lr" = 0.02 }

[[stage]]
id = "keep"
kind = "keep"
[stage.keep]
sentence = "Keep it."
source = "nobody"
code = "pass"
"""
SIZES = ((80, 24), (120, 40))
NEEDS_ANOTHER_TERMINAL = ("6-",)
"""See `test_script_of_a_lesson_is_watched_diagnosed_and_fixed`."""


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize(
    "folder",
    [folder for folder in lesson_folders(BUILTIN) if not folder.name.startswith(NEEDS_ANOTHER_TERMINAL)],
    ids=lambda folder: folder.name,
)
def test_lesson_is_taken_to_its_end_and_its_runs_show_what_it_says(
    folder: Path, size: tuple[int, int], tmp_path: Path
) -> None:
    progress = Walker(folder, tmp_path, size).walk()
    assert progress.is_finished
    assert progress.n_complete == len(progress.lesson.stages)
    assert not [sentence for stage in progress.lesson.stages for sentence in progress.of(stage.id).failed_facts]
    assert not failed_facts(progress)


class WalkerWithTwoTerminals(Walker):
    """Runs the script of a stage that waits for its run; in a stage of kind fix, with the mistake fixed."""

    def _press(self, stage: Stage, bar: str) -> None:
        if stage.terminal is None or "waits for the run" not in bar:
            super()._press(stage, bar)
            return
        folder = load_progress(self.lesson).folder
        script = folder / stage.terminal.copies[0]
        if stage.kind == "fix":
            line = "    loss.backward()\n"
            script.write_text(script.read_text("utf-8").replace(line, f"    optimizer.zero_grad()\n{line}"), "utf-8")
        command = [sys.executable, "-m", "tui_lab", "watch", "--headless", script.name]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_script_of_a_lesson_is_watched_diagnosed_and_fixed(size: tuple[int, int], tmp_path: Path) -> None:
    progress = WalkerWithTwoTerminals(BUILTIN / "6-your-script", tmp_path, size).walk()
    assert progress.is_finished
    assert progress.n_complete == len(progress.lesson.stages)
    assert progress.of("doctor").finding == "no_zero_grad"
    assert not failed_facts(progress)


@pytest.mark.slow
def test_tiny_lesson_is_taken_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "lesson.toml").write_text(TINY, "utf-8")
    (folder / "text.md").write_text("\n\n".join(f"## {id}\n\nA text." for id in ("train", "rates", "again", "keep")))
    screens: dict[str, str] = {}
    progress = Walker(folder, tmp_path, (80, 24), lambda stage, screen: screens.update({stage.id: screen})).walk()
    assert progress.is_finished and progress.n_complete == 4
    assert not failed_facts(progress)
    assert "lr 1" in screens["rates"]
    assert "before" in screens["again"]
    assert all("Loss" in screen for screen in screens.values()), "the strip leaves the pane in sight"
