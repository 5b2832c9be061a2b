"""`tui-lab explain`: a corrupted line is found as the cause of a spike, and a rewind without it has no spike."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CliError, RunCli
from tests.core.recorded import recorded, recorded_script
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.spikes import read_spikes

SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"d_model": 32, "n_layers": 1, "n_heads": 2, "d_head": 16, "d_ff": 64, "context": 32},
    "data": {"task": "text", "tokenizer": "char", "vocab": "seen", "path": "corpus.txt", "stride": 32},
    "optim": {"lr": 5e-3},
    "train": {"steps": 250, "batch_size": 8, "eval_every": 0, "eval_examples": 8, "checkpoint_every": 50,
              "device": "cpu", "threads": 1},
}  # fmt: skip
WORDS = (
    ("the cat", "the dog", "a bird", "the old man", "my friend", "the child", "a king", "the sailor"),
    ("sees", "loves", "follows", "finds", "asks", "carries", "hears", "paints"),
    ("the river", "a stone", "the moon", "a letter", "the garden", "his house", "an apple", "the song"),
)


def write_corpus(folder: Path) -> str:
    """Write simple sentences with one line of random letters, and the config; return that line."""
    draw = random.Random(1)
    lines = [" ".join(draw.choice(words) for words in WORDS) + ".\n" for _ in range(1500)]
    corrupted = "".join(draw.choice("abcdefghijklmnopqrstuvwxyz ,.") for _ in range(70))
    lines.insert(700, corrupted + "\n")
    (folder / "corpus.txt").write_text("".join(lines), "utf-8")
    tables = [
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in SETTINGS.items()
    ]
    (folder / "config.toml").write_text("".join(tables), "utf-8")
    return corrupted


def test_corrupted_line_is_found_and_the_rewind_without_it_has_no_spike(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "runs"))
    corrupted = write_corpus(tmp_path)
    trained = run_cli("run", "config.toml", "--out", "runs/spiky")
    assert trained.code == 0 and "tui-lab explain runs/spiky" in trained.err
    explained = json.loads(run_cli("explain", "spiky", "--json").out)
    [suspect] = explained["suspects"]
    assert explained["outliers"][0]["text"] in corrupted, "beside the spike"
    highest = explained["at"]["rows"][0]
    assert highest["example"] == suspect and highest["text"] in corrupted
    assert explained["loss_without"] < explained["spike"]["expected"] + explained["spike"]["deviation"]
    assert explained["before"]["step"] + 1 == explained["at"]["step"] == explained["after"]["step"] - 1
    rewound = run_cli("explain", "spiky", "--rewind", "skip")
    assert rewound.code == 0 and "▲" in rewound.out
    [fork] = (tmp_path / "runs").glob("spiky-fork*")
    parent = tmp_path / "runs" / "spiky"
    assert read_spikes(Run(parent)) and not read_spikes(Run(fork))
    old, new = (Run(path).row_log().read() for path in (parent, fork))
    assert new.steps.tolist() == old.steps.tolist() == list(range(1, 251))
    for before, after in zip(old.between(1, 250), new.between(1, 250), strict=True):
        assert before.ids.tolist() == after.ids.tolist()
    again = run_cli("explain", fork, "--json")
    assert again.code == 0 and json.loads(again.out)["spike"] is None


def test_rows_that_stand_out_are_listed_where_no_step_is_a_spike(
    run_cli: RunCli, cli_error: CliError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "runs"))
    corrupted = write_corpus(tmp_path)
    trained = run_cli("run", "config.toml", "--set", "train.batch_size=64", "--steps", "150", "--out", "runs/calm")
    assert trained.code == 0 and "explain" not in trained.err
    explained = json.loads(run_cli("explain", "calm", "--json").out)
    assert explained["spike"] is None
    first = explained["outliers"][0]
    assert first["text"] in corrupted and first["loss"] > first["typical"] + 1
    [excess, *others] = [row["loss"] - row["typical"] for row in explained["outliers"]]
    assert excess >= max(others, default=0.0)
    assert len(first["seen"]) > 1 and first["seen"][0]["step"] == first["step"], "one entry for all its windows"
    assert not [row for row in others if row > excess / 2], "the other windows of the line are not listed again"
    assert explained["n_outliers"] > len(explained["outliers"]) == 10
    everything = json.loads(run_cli("explain", "calm", "--top", 0, "--json").out)
    assert len(everything["outliers"]) == everything["n_outliers"] == explained["n_outliers"]
    assert len(json.loads(run_cli("explain", "calm", "--top", 2, "--json").out)["outliers"]) == 2
    assert cli_error("explain", "calm", "--rewind", "skip").code == "not_found"
    shown = run_cli("explain", "calm")
    assert shown.code == 0 and f"{first['example']:,}" in shown.out
    assert f"{first['row'] + 1} of 64" in shown.out and f"seen in {len(first['seen'])} rows" in shown.out, (
        "people count from 1"
    )


def test_run_without_recorded_rows_or_of_a_script_is_refused(cli_error: CliError, tmp_path: Path) -> None:
    recorded(tmp_path / "old")
    recorded_script(tmp_path / "script")
    for name in ("old", "script"):
        assert cli_error("explain", str(tmp_path / name), "--step", 3).code == "unavailable"
