"""A validation loss that a script prints is recognized, whether the line or the event comes first."""

import pytest

from tui_lab.app.panes.printed_losses import PrintedLosses

LOSS = 0.33661


@pytest.mark.parametrize(
    ("line", "is_printed"),
    [
        ("step 1050: train loss 0.3277, val loss 0.3366", True),
        ("Epoch 1 | Dev Loss: 0.33661", True),
        ("{'eval_loss': '0.337'}", True),
        ("iter 1050: loss 0.3366, time 139.47ms", False),
        ("val loss 0.34", False),
        ("val loss 0.3367", False),
        ("val loss 10.3366", False),
    ],
)
def test_line_that_has_the_loss(line: str, *, is_printed: bool) -> None:
    losses = PrintedLosses()
    losses.log(LOSS, "logged")
    assert losses.print([line]) == (["logged"] if is_printed else [])
    losses = PrintedLosses()
    assert losses.print(["val loss 1.234", line]) == []
    assert [losses.take(LOSS), losses.take(LOSS)] == [is_printed, False], "each line says one evaluation"
