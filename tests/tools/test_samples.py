"""A small sample of `make fuzz` and `make fuzz-app`."""

import pytest

from tools.torture import app, commands, configs


@pytest.mark.slow
def test_fuzzed_configs_are_accepted_or_refused() -> None:
    counts = configs.fuzz(60, seed=0)
    assert all(counts[f"{form} {outcome}"] for form in ("file", "overrides") for outcome in ("accepted", "refused"))


@pytest.mark.slow
def test_fuzzed_command_lines_work_or_are_refused() -> None:
    counts = commands.fuzz(40, seed=0)
    assert counts["exit 0"] and counts["exit 2"]


@pytest.mark.slow
async def test_fuzzed_app_does_not_hang() -> None:
    assert sum((await app.fuzz(120, seed=0)).values()) >= 120
