"""What a change of a setting resolves to, in a run of our trainer and in the run of a script."""

from typing import Any

import pytest

from tests.core.recorded import JUST_LAUNCHED, script_config
from tests.core.tiny import tiny
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import LARGEST_FACTOR, RunConfig
from tui_lab.util.errors import ConfigError

SCRIPT = script_config()


@pytest.mark.parametrize(
    ("config", "command", "key", "value"),
    [
        (tiny(), cmd.Scale("optim.lr", 2.0), "optim.lr", 0.02),
        (tiny(), cmd.Shift("model.dropout", 0.25), "model.dropout", 0.25),
        (SCRIPT, cmd.Scale("optim.lr_factor", 2.0), "optim.lr_factor", 2.0),
        (SCRIPT, cmd.Scale("optim.lr_factor", 1e9), "optim.lr_factor", LARGEST_FACTOR),
        (SCRIPT, cmd.Shift("model.dropout", 0.2), "model.dropout", 0.3),
        (SCRIPT, cmd.Shift("model.dropout", -0.5), "model.dropout", 0.0),
        (SCRIPT, cmd.Cycle("optim.grad_clip", (1.0, 0.0)), "optim.grad_clip", 0.0),
        (SCRIPT, cmd.Set("optim.weight_decay", 0.5), "optim.weight_decay", 0.5),
        (JUST_LAUNCHED, cmd.Scale("optim.lr_factor", 0.5), "optim.lr_factor", 0.5),
    ],
)
def test_change_of_a_live_setting(config: RunConfig, command: cmd.Change, key: str, value: float) -> None:
    assert cmd.resolve(command, config, []) == (key, pytest.approx(value))


@pytest.mark.parametrize(
    ("config", "command", "code", "suggestion"),
    [
        (SCRIPT, cmd.Set("settings.batch_size", 24), "needs_restart", ""),
        (SCRIPT, cmd.Set("optim.lr", 0.1), "needs_restart", ""),
        (SCRIPT, cmd.Set("optim.lr_facter", 2.0), "unknown_key", "optim.lr_factor"),
        (SCRIPT, cmd.Set("data.shuffle", "once"), "unknown_key", ""),
        (JUST_LAUNCHED, cmd.Set("model.dropout", 0.1), "unknown_key", ""),
        (SCRIPT, cmd.Scale("model.dropout", 1.0), "invalid", ""),
        (tiny(), cmd.Set("optim.lr_factor", 2.0), "unknown_key", ""),
        (tiny(), cmd.Set("model.d_model", 16), "needs_restart", ""),
    ],
)
def test_change_that_is_not_possible(config: RunConfig, command: cmd.Change, code: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cmd.resolve(command, config, [])
    assert caught.value.code == code
    if suggestion:
        assert caught.value.problems[0].suggestion == suggestion


def test_undo_returns_to_the_value_before_the_last_change() -> None:
    changes = [ev.Changed(step=step, key="optim.lr_factor", old=2.0**step, new=2.0 ** (step + 1)) for step in range(3)]
    assert cmd.resolve(cmd.Undo(), SCRIPT, changes) == ("optim.lr_factor", 4.0)
    with pytest.raises(ConfigError):
        cmd.resolve(cmd.Undo(), SCRIPT, [])


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        {"command": "generat", "id": "a", "prompt": "x"},
        {"command": "generate", "prompt": "x"},
        {"command": "generate", "id": "a", "prompt": 3},
        {"command": "generate", "id": "a", "prompt": "x", "max_new_tokens": "many"},
        {"command": "generate", "id": "a", "prompt": "x", "beams": 2},
        {"command": "attend", "id": "a", "row": "first"},
        {"command": "snapshot"},
    ],
)
def test_record_of_another_shape_is_not_a_command(record: Any) -> None:
    with pytest.raises(ValueError):
        cmd.from_json(record)


def test_commands_with_functions_cannot_be_sent() -> None:
    with pytest.raises(ValueError):
        cmd.to_json(cmd.Inspect(lambda model: None))
