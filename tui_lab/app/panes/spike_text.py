"""What the panes say about a spike of the loss, and about a row that stood out."""

from typing import TYPE_CHECKING

from tui_lab.app.actions import BY_ID
from tui_lab.app.key_names import key_label
from tui_lab.app.keymap import Keymap
from tui_lab.core.runs.spikes import Spike
from tui_lab.runs.names import row_name
from tui_lab.runs.numbers import short_number

if TYPE_CHECKING:
    from tui_lab.core.runs.outlier_rows import OutlierRow


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


def outlier_text(row: "OutlierRow") -> str:
    """Return which row of a step stood out, and its loss."""
    return f"{row_name(row.row, row.n_rows)}: {short_number(row.loss)}; {short_number(row.typical)} is typical"
