"""A fast sample of what `make fuzz` and `make fuzz-app` do at length."""

import pytest

from tools.torture import app, commands, configs


def test_configs_are_accepted_or_refused_in_words() -> None:
    counted = configs.fuzz(150, seed=0)
    assert all(counted[f"{how} {what}"] for how in ("file", "overrides") for what in ("accepted", "refused"))


def test_command_lines_do_what_they_say_or_are_refused_in_words() -> None:
    counted = commands.fuzz(80, seed=0)
    assert counted["exit 0"] and counted["exit 2"]


@pytest.mark.slow
async def test_keys_mouse_and_resizes_at_random_leave_the_app_alive() -> None:
    assert sum((await app.fuzz(120, seed=0)).values()) >= 120
