"""Steps of a script as it is and with one change each, by turns, so that all have the same noise of the machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

AS_IT_IS = ""
"""The name of the script without a change."""
TOGETHER = "together"
"""The name of all changes that are faster, at once."""
MIN_ROUNDS = 5
"""The fewest rounds in which all can agree by chance with a probability below 5 %: 2 ** -5."""
MAX_ROUNDS = 20
BLOCK_SECONDS = 0.3
"""How long a block should take at least."""
MAX_STEPS = 100
"""Of a block."""
LONG = 1.0
"""Seconds of a step from which on a block needs no step before it that is not counted, but the first one."""
MAX_REPEATS = 3
"""How often a block in which the script evaluated is made again."""
TOO_SLOW = 2.0
"""A change that makes steps slower by this factor in its first block is not tried again."""
PATIENCE = 3
"""Times the seconds that are planned, after which there are no further rounds."""


@dataclass(frozen=True)
class Block:
    """Steps in a row. change: its name, `AS_IT_IS` for none. seconds: for each unit of `size` in a step.

    A size is the number of tokens, or of samples, or 1 if neither is known.
    """

    change: str
    round: int
    n_steps: int
    seconds: float


class Turns:
    """Decides after each step which change the next one has. Times are in seconds, from any clock.

    changes: how many steps each needs before it is at full speed when it is first turned on. step_seconds: of a step
    as it is.
    """

    def __init__(self, changes: Mapping[str, int], seconds: float, step_seconds: float, now: float) -> None:
        self._warm_up = {AS_IT_IS: 1, **changes}
        self._order: Sequence[str] = list(self._warm_up)
        self._seconds = seconds
        self._n_steps = min(MAX_STEPS, max(1, round(BLOCK_SECONDS / max(step_seconds, 1e-9))))
        self._n_between = 0 if step_seconds >= LONG else 1
        """Steps that are not counted at the beginning of a block."""
        self._began = now
        self._turned_on = now
        """When the present block began, with its steps that are not counted."""
        self._place = 0
        self._round = 0
        self._base = 0.0
        """Seconds for each unit in the latest block as it is."""
        self.is_over = False
        self._begin_block(self._warm_up[AS_IT_IS], now)

    @property
    def least_steps(self) -> int:
        """How many steps there are in the fewest rounds that show a difference."""
        in_block = self._n_steps + self._n_between
        return sum(self._warm_up.values()) + in_block * (len(self._order) * MIN_ROUNDS + 1)

    @property
    def current(self) -> str:
        """The change of the next step."""
        return self._order[self._place]

    @property
    def is_at_limit(self) -> bool:
        """Whether a block begins or ends with the next step, so that its exact time counts."""
        return self._n_before == 1 or (not self._n_before and self._n_counted + 1 >= self._n_steps)

    def step_ended(self, now: float, size: int, *, has_evaluated: bool) -> Block | None:
        """Return the block that ends with this step; None if none does."""
        if self._n_before:
            self._n_before -= 1
            self._block_began = now
            if not self._n_before and not self._round:
                self._began += now - self._turned_on  # Compiling does not take the time of the rounds.
            return None
        if has_evaluated and self._n_repeats < MAX_REPEATS:
            self._n_repeats += 1
            self._begin_steps(1, now)
            return None
        self._n_counted += 1
        self._size += size
        block = Block(self.current, self._round, self._n_counted, (now - self._block_began) / max(1, self._size))
        if self._n_counted < self._n_steps and not self._is_too_slow(block):
            return None
        self._end_block(block, now)
        return block

    def _is_too_slow(self, block: Block) -> bool:
        is_first = self._round == 0 and block.change != AS_IT_IS
        return is_first and block.seconds > TOO_SLOW * self._base

    def _end_block(self, block: Block, now: float) -> None:
        if block.change == AS_IT_IS:
            self._base = block.seconds
            elapsed = now - self._began
            is_enough = elapsed >= self._seconds and self._round >= MIN_ROUNDS
            is_late = elapsed >= PATIENCE * self._seconds and self._round > 0
            self.is_over = is_enough or is_late or self._round >= MAX_ROUNDS or len(self._order) == 1
        place = self._place + 1
        if self._is_too_slow(block):
            self._order = [name for name in self._order if name != block.change]
            place -= 1
        self._turned_on = now
        self._place = place % len(self._order)
        self._round += self._place == 0
        is_first = self._round == 0
        self._begin_block(self._warm_up[self.current] if is_first else self._n_between, now)

    def _begin_block(self, n_before: int, now: float) -> None:
        self._n_repeats = 0
        self._begin_steps(n_before, now)

    def _begin_steps(self, n_before: int, now: float) -> None:
        """n_before: steps that are not counted."""
        self._n_before = n_before
        self._n_counted = 0
        self._size = 0
        self._block_began = now
