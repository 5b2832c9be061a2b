"""The line below a selected cell of the batch pane."""

import numpy as np

from tui_lab.app.panes.batch_text import cell_details
from tui_lab.app.panes.cells import Example
from tui_lab.core.inference.example import CellLosses
from tui_lab.data.dataset import IGNORED
from tui_lab.data.tokenizers import DigitsTokenizer


def test_position_whose_logits_the_loss_did_not_get_has_no_predictions() -> None:
    losses = CellLosses(
        losses=np.array([np.nan, 0.5], dtype=np.float32),
        top=np.array([[0, 0], [7, 3]]),
        probabilities=np.array([[0, 0], [0.6, 0.3]], dtype=np.float32),
    )
    example = Example(DigitsTokenizer(), next_token=True, x=np.array([1, 2]), y=np.array([IGNORED, 7]), losses=losses)
    assert "top" not in cell_details("row 1", example, 0, 60).plain
    assert "top 2: 7 (0.60)  3 (0.30)" in cell_details("row 1", example, 1, 60).plain
