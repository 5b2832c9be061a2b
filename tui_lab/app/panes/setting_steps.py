"""By how much the keys + and - change a setting."""

from tui_lab.app.panes.setting_text import choices, value_of
from tui_lab.core import commands as cmd
from tui_lab.core.config import script
from tui_lab.core.config.script import RunConfig

FRACTION_STEP = 0.05
FIRST_FLOAT = 0.01
"""The step from a real number of 0, such as a weight decay; from there on it is doubled."""


def step_of(config: RunConfig, key: str, direction: int) -> cmd.Scale | cmd.Shift | cmd.Cycle | None:
    """Return the command that raises (direction 1) or lowers (-1) a setting; None if it has no order.

    Fractions change by 0.05, other numbers by a factor of 2; a setting that takes one of a few names goes to the next.
    """
    if names := choices(config, key):
        return cmd.Cycle(key, tuple(names) if direction > 0 else tuple(reversed(names)))
    value = value_of(config, key)
    if isinstance(value, bool):
        return cmd.Cycle(key, (False, True))
    if not isinstance(value, int | float):
        return None
    if script.bounds(config, key)[1] <= 1.0:
        return cmd.Shift(key, direction * FRACTION_STEP)
    if value == 0:
        return cmd.Shift(key, direction * (1 if isinstance(value, int) else FIRST_FLOAT))
    return cmd.Scale(key, 2.0 if direction > 0 else 0.5)
