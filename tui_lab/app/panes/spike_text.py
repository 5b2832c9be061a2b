"""What the panes say about a spike of the loss."""

from collections.abc import Sequence

from tui_lab.app.actions import BY_ID
from tui_lab.app.key_names import key_label
from tui_lab.app.keymap import Keymap
from tui_lab.core.runs.spikes import Spike
from tui_lab.runs.numbers import short_number


def spike_line(spike: Spike, keymap: Keymap | None) -> str:
    """Return the line of the log about a spike. keymap: of the keys that explain it; None if nothing does."""
    text = f"step {spike.step:,}: the loss jumped to {short_number(spike.loss)}; {expected_text(spike)}"
    if keymap is None:
        return text
    spike_key, rows_key = (
        key_label(keymap.chosen.get(f"loss.{name}", (default,))[0])
        for name, default in (("previous_spike", "N"), ("rows_of_the_step", "enter"))
    )
    return f"{text} ({keymap.key_of(BY_ID['pane_2'])} {spike_key} {rows_key}: its rows)"


def expected_text(spike: Spike) -> str:
    """Return which loss was expected."""
    return f"{short_number(spike.expected)} was expected"


def next_step(steps: Sequence[int], cursor: float | None, by: int) -> int:
    """Return the first of `steps` after the cursor, or the last before it if `by` is -1.

    It goes around at the ends. Without a cursor it is the last one.
    """
    beyond = [step for step in steps if cursor is not None and (step - cursor) * by > 0]
    if cursor is None or (by < 0 and not beyond):
        return steps[-1]
    return steps[0] if not beyond else beyond[0] if by > 0 else beyond[-1]
