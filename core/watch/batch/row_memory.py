"""Remembers which rows a script has trained on, by a hash of each, in bounded memory."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tui_lab.core.watch.batch.recorded_batch import RowHistory

MAX_ROWS = 2**15
"""Rows that are remembered, at most."""
MAX_ROWS_A_STEP = 256
MAX_VALUES = 4096
"""Values of a row that its hash covers."""
MAX_VALUES_OF_BYTES = 512
"""The same where Python hashes the bytes of the values."""
RECENT_STEPS = 64
_TIMES_BITS = 24
_MAX_TIMES = 2**_TIMES_BITS - 1
_NEVER = -1 << _TIMES_BITS
"""Step −1, 0 times."""
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class RowCopy:
    """A copy of token ids int64 [B, T] on the CPU, whose hashes are computed later, for many steps at once.

    Between the operations of a small model, code that they do not use is not in the processor's caches: there NumPy
    takes ten times as long.
    """

    ids: Tensor

    def tolist(self) -> list[int]:
        """Return the hash of each row, as from a tensor of them.

        Python's own hash needs no further calls into NumPy.
        """
        content = self.ids.numpy().tobytes()
        width = 8 * self.ids.shape[1]
        return [hash(content[start : start + width]) for start in range(0, len(content), width)]


class RowHasher:
    """Hashes rows by a random linear function modulo 2**64 (Carter and Wegman 1979), on their device."""

    def __init__(self) -> None:
        self._coefficients: dict[tuple[int, torch.device], Tensor] = {}

    def hashes(self, x: Tensor) -> Tensor | RowCopy:
        """B numbers of 64 bits for x of any dtype [B, …]: int64 [B], or for token ids on the CPU a copy of them.

        The result does not change with x.
        """
        if x.is_cpu and x.dtype == torch.int64 and x.dim() == 2 and x.numel():
            if x.shape[0] > MAX_ROWS_A_STEP or x.shape[1] > MAX_VALUES_OF_BYTES:
                x = x[:MAX_ROWS_A_STEP, :MAX_VALUES_OF_BYTES]
            return RowCopy(x.clone())  # The usual case.
        rows = x.detach()[:MAX_ROWS_A_STEP].flatten(1) if x.dim() > 1 else x.detach()[:MAX_ROWS_A_STEP, None]
        rows = rows[:, :MAX_VALUES]
        if rows.dtype == torch.bool:
            rows = rows.to(torch.int8)
        if rows.is_floating_point():
            rows = rows.contiguous().view(_INTEGERS[rows.element_size()])
        return (rows.to(torch.int64) * self._coefficients_for(rows)).sum(dim=1)

    def _coefficients_for(self, rows: Tensor) -> Tensor:
        key = (rows.shape[1], rows.device)
        if key not in self._coefficients:
            if len(self._coefficients) > 16:  # Rows of many lengths.
                self._coefficients.clear()
            generator = torch.Generator().manual_seed(0)  # The script's random numbers stay as they are.
            drawn = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator, dtype=torch.int64)
            self._coefficients[key] = (drawn | 1).to(rows.device)
        return self._coefficients[key]


class RowMemory:
    """For each row hash: the step at which it was last used, and how often it was used.

    Of the rows used longest ago, up to half of `limit` are forgotten at once: two plain dictionaries take half the
    memory and time of one that keeps the order of use.
    """

    def __init__(self, limit: int = MAX_ROWS) -> None:
        self._limit = limit // 2
        self._rows: dict[int, int] = {}
        """By hash, in one number: the step, times 2**_TIMES_BITS, and the times."""
        self._older_rows: dict[int, int] = {}
        self._recent_new: deque[float] = deque(maxlen=RECENT_STEPS)
        self._last_steps: list[int] = []
        self._times: list[int] = []

    def add(self, step: int, hashes: list[int]) -> None:
        """Note that the rows with these hashes were used in `step`."""
        self._last_steps = []
        self._times = []
        for row in hashes:
            use = self._rows.get(row)
            if use is None:
                use = self._older_rows.get(row, _NEVER)
            n = min((use & _MAX_TIMES) + 1, _MAX_TIMES)
            self._rows[row] = step << _TIMES_BITS | n
            self._last_steps.append(use >> _TIMES_BITS)
            self._times.append(n)
        if len(self._rows) >= self._limit:
            self._older_rows = self._rows
            self._rows = {}
        self._recent_new.append(self._last_steps.count(-1) / max(1, len(hashes)))

    def history(self) -> RowHistory:
        """Return what was known of the rows of the latest `add` before it."""
        recent = np.array(self._recent_new, dtype=np.float32)
        return RowHistory(np.array(self._last_steps, dtype=np.int64), np.array(self._times, dtype=np.int64), recent)
