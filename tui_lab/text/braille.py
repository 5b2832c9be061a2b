"""Lines of braille: eight points in every cell of the terminal."""

import numpy as np
from numpy.typing import NDArray

from tui_lab.text.axis import Floats

COLUMNS = 2
"""Points side by side in a cell."""
ROWS = 4
"""Points above each other in a cell."""
BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)
"""The bit of each point of a cell in the block of Unicode that begins at U+2800."""
CHARS = [chr(0x2800 + code) for code in range(256)]
Codes = NDArray[np.uint8]


def line(x: Floats, y: Floats, width: int, height: int) -> Codes:
    """Return the braille codes, 0 where a cell is empty, of a line through points in order of x.

    x, y: shares of the width from the left and of the height from the bottom; a point outside of 0 to 1 is not drawn,
    but the line leads to it. Returns an array of height × width.
    """
    n_columns = width * COLUMNS
    n_rows = height * ROWS
    usable = np.isfinite(x) & np.isfinite(y)
    columns = x[usable] * n_columns
    # The ends of the range lie on the outermost points.
    rows = np.clip((1 - y[usable]) * n_rows, -1e6, 1e6)
    rows[rows == n_rows] = n_rows - 0.5
    pixels = np.zeros((n_rows, n_columns), dtype=bool)
    if len(columns):
        _fill(pixels, columns, rows)
    cells = pixels.reshape(height, ROWS, width, COLUMNS).astype(np.uint8) * BITS[None, :, None, :]
    return np.asarray(cells.sum(axis=(1, 3), dtype=np.uint8))


def _fill(pixels: NDArray[np.bool_], columns: Floats, rows: Floats) -> None:
    """Set, in each column, the pixels from the lowest to the highest point, up to those of the column before."""
    n_rows, n_columns = pixels.shape
    columns = np.where(columns == n_columns, n_columns - 0.5, columns)
    first = max(0, int(np.floor(columns[0])))
    last = min(n_columns - 1, int(np.floor(columns[-1])))
    if first > last:
        return
    centers = np.clip(np.arange(first, last + 1) + 0.5, columns[0], columns[-1])
    top = np.interp(centers, columns, rows)
    bottom = top.copy()
    inside = (columns >= first) & (columns < last + 1)
    places = columns[inside].astype(int) - first
    np.minimum.at(top, places, rows[inside])
    np.maximum.at(bottom, places, rows[inside])
    low = np.floor(top).astype(int)
    high = np.floor(bottom).astype(int)
    starts = low.copy()
    ends = high.copy()
    starts[1:] = np.where(low[1:] > high[:-1] + 1, high[:-1] + 1, low[1:])
    ends[1:] = np.where(high[1:] < low[:-1] - 1, low[:-1] - 1, high[1:])
    starts = np.maximum(starts, 0)
    counts = np.maximum(np.minimum(ends, n_rows - 1) - starts + 1, 0)
    at_column = np.repeat(np.arange(first, last + 1), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    pixels[np.repeat(starts, counts) + np.arange(counts.sum()) - before, at_column] = True
