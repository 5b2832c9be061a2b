import json

import pytest

from tests.process import Cli


def test_flat_measures_a_long_record_and_a_corpus(cli: Cli) -> None:
    found = cli("bench", "flat", "--events", "2000", "--mib", "8", "--json")
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout)
    assert figures["events"]["events"] == 2000 and figures["events"]["open_s"] > 0
    assert figures["corpus"]["mib_per_s"] > 0 and figures["machine"]["torch"]


@pytest.mark.slow
def test_the_headline_trains_until_its_target_in_both_ways(cli: Cli) -> None:
    """A target above ln V is reached by the first update."""
    found = cli("bench", "headline", "--target", "20", "--json")
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)["rows"]
    assert [row["steps"] for row in rows.values()] == [1, 1, 1]
    ours, loop = rows["tui-lab"], rows["nanoGPT-style loop"]
    assert abs(ours["train_loss"] - loop["train_loss"]) < 1e-3
    assert abs(ours["val_loss"] - loop["val_loss"]) < 1e-2
    assert all(row["peak_memory_mib"] > 0 for row in rows.values())
