"""A corrupted row in a text: found, explained and skipped with keys only, in a real terminal."""

import math
import random
from pathlib import Path

import pytest

from tests.app.test_end_to_end import Person
from tui_lab.core.runs.explain import explain
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.spikes import read_spikes

CONFIG = """
[model]
d_model = 48
n_layers = 1
n_heads = 2
d_head = 24
d_ff = 96
context = 32
dropout = 0.0
[data]
task = "text"
path = "text.txt"
tokenizer = "char"
vocab = "seen"
stride = 32
[optim]
name = "adamw"
lr = 0.003
[train]
steps = 300
batch_size = 8
eval_every = 0
checkpoint_every = 40
threads = 1
"""
LETTERS = "abcdefghijklmnoprstuvwABCDxyz,;:!?0123456789"
PLANTED = 500
"""The line, of 31 characters and its end as all others."""


def planted_text(seed: int) -> str:
    """Return lines of the same few words, and one of random characters."""
    source = random.Random(seed)
    lines = [
        f"{source.choice(('Anna', 'Bert', 'Dora'))} {source.choice(('sees', 'likes', 'finds'))} a house".ljust(31, ".")
        for _ in range(3000)
    ]
    lines[PLANTED] = "".join(source.choice(LETTERS) for _ in range(31))
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids=lambda size: "x".join(map(str, size)))
def test_planted_row_is_found_and_skipped_by_keys(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(planted_text(1), "utf-8")
    (tmp_path / "planted.toml").write_text(CONFIG, "utf-8")
    person = Person(tmp_path, "app", "planted.toml", size=size)
    person.wait_for("■ done")
    person.press("2N\r")
    person.wait_for("1 of 8 rows")
    person.wait_for("the weights of step")
    person.press("r")
    person.wait_for("Skip the marked row")
    person.wait_for("done again")
    person.press("\r")
    person.wait_until(lambda screen: "fork" in screen and "■ done" in screen)
    person.wait_for("a planted-")  # The legend of the curve of the run that was rewound.
    person.press("q")
    assert person.leave() == 0

    parent, fork = sorted(map(Run, (tmp_path / "runs").iterdir()), key=lambda run: "fork" in run.name)
    spike = max(read_spikes(parent), key=lambda spike: spike.excess)
    explanation = explain(parent, spike.step)
    assert [row.example for row in explanation.suspects] == [PLANTED]
    assert explanation.at.rows[0].example == PLANTED
    assert explanation.checkpoint_step is not None
    assert not [each for each in read_spikes(fork) if each.step > explanation.checkpoint_step]
    [again] = [row for row in explain(fork, spike.step).at.rows if row.example == PLANTED]
    assert math.isnan(again.loss), "it has no targets any more"
