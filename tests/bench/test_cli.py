"""The benchmark commands, end to end and small."""

import json

import pytest

from tests.process import Cli


@pytest.mark.slow
def test_bench_flat_measures_events_and_a_corpus(cli: Cli) -> None:
    done = cli("bench", "flat", "--events", "2000", "--mib", "8", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["events"]["events"] == 2000 and figures["events"]["open_s"] > 0
    assert figures["corpus"]["mib_per_s"] > 0 and figures["machine"]["torch"]


@pytest.mark.slow
def test_bench_headline_stops_every_run_at_the_target(cli: Cli) -> None:
    """A target above the uniform loss is reached by the first step."""
    done = cli("bench", "headline", "--target", "20", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {row["steps"] for row in rows.values()} == {1}
    ours, loop, earlier = rows["tui-lab"], rows["nanoGPT-style loop"], rows["nanoGPT-style loop, 16 rows"]
    assert set(ours["loop_takes_times"]) == {name for name in rows if name.startswith("nanoGPT-style")}
    assert (loop["tokens"], earlier["tokens"]) == (8 * 128, 16 * 128)
    assert abs(ours["train_loss"] - loop["train_loss"]) < 1e-3
    assert abs(ours["val_loss"] - loop["val_loss"]) < 1e-2
    assert all(row["peak_memory_mib"] > 0 for row in rows.values())


@pytest.mark.slow
def test_bench_sweep_measures_both_ways(cli: Cli) -> None:
    done = cli("bench", "sweep", "--preset", "overfit-one", "--trials", "2", "--turns", "1", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["presets"]["overfit-one"]["rows"]
    assert rows["--jobs 1"]["jobs"] == 1 and rows["--jobs auto"]["trials_per_minute"] > 0


@pytest.mark.slow
def test_bench_watch_measures_time_and_memory(cli: Cli) -> None:
    done = cli("bench", "watch", "--pairs", "1", "--turns", "2", "--memory-steps", "2000", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures["time"]) == {"100K", "10M"} and set(figures["time"]["10M"]) == {"no_clipping", "clipping"}
    assert 10e6 < figures["time"]["10M"]["clipping"]["parameters"] < 11e6
    assert figures["memory"]["steps"] == [1000, 2000] and figures["memory"]["watched"]["mib"][0] > 0
