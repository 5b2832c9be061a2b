"""The latest batch of a script, as the recorder saw it: batch.safetensors in the run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tui_lab.core.runs.run_files import BATCH
from tui_lab.data.dataset import IGNORED
from tui_lab.util import files
from tui_lab.util.strict_json import dumps, loads

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_TOKEN_ARRAYS = ("x", "y", "losses", "top", "probabilities", "row_classes")
_FACTS = ("step", "n_rows", "micro_batches", "x_shape", "y_shape", "n_classes", "ignore_index")


@dataclass(frozen=True)
class RowHistory:
    """Which rows of the batch came before, for all its B rows, compared by a hash of their x.

    last_step: the step at which the row was last trained on before this one, -1 if it is new. times: how often, this
    time included. recent_new: the fraction of new rows in each of the last steps, oldest first.
    """

    last_step: Ids
    times: Ids
    recent_new: Floats


@dataclass(frozen=True)
class RecordedBatch:
    """The first micro-batch of step `step`, counted from 0.

    n_rows: B; micro_batches: how many the step has. x_shape, y_shape: of the whole tensors, "" where there is none.
    x, y: int64 [R, T] of the first rows, y IGNORED where the loss skips the position; None where the model does not
    take tokens. losses: nats [L, T] of the first L ≤ R rows, NaN where ignored; top: ids [L, T, k], probabilities of
    the same shape; None where they were not measured. n_classes: how many there are where y and top are classes, not
    ids of tokens; 0: they are ids. row_classes: int64 [R], the target of each row if there is one for the whole row.
    class_names: of the classes of tokens or rows; empty if they are not known. ignore_index: what the script itself has
    as the target of a position that its loss skips.
    """

    step: int
    n_rows: int
    micro_batches: int
    x_shape: str
    y_shape: str
    x: Ids | None
    y: Ids | None
    losses: Floats | None
    top: Ids | None
    probabilities: Floats | None
    history: RowHistory | None
    n_classes: int = 0
    row_classes: Ids | None = None
    class_names: tuple[str, ...] = ()
    ignore_index: int = IGNORED

    @property
    def token_rows(self) -> tuple[Ids, Ids] | None:
        """x and y of the recorded rows, y IGNORED where no targets are known: [R, T]; None if they are not tokens."""
        if self.x is None:
            return None
        has_targets = self.y is not None and self.y.shape == self.x.shape
        return self.x, self.y if self.y is not None and has_targets else np.full_like(self.x, IGNORED)


def write_batch(folder: Path, batch: RecordedBatch) -> None:
    """Replace the recorded batch. Raises OSError."""
    facts = {name: str(getattr(batch, name)) for name in _FACTS} | {"class_names": dumps(batch.class_names)}
    arrays: dict[str, npt.NDArray[Any]] = {
        name: array for name in _TOKEN_ARRAYS if (array := getattr(batch, name)) is not None
    }
    if batch.history is not None:
        arrays |= vars(batch.history)
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, facts)
    files.write_bytes(folder / BATCH, content)


def read_batch(folder: Path) -> RecordedBatch | None:
    """Return the recorded batch; None where there is none. Raises OSError, or ValueError for a damaged file."""
    path = folder / BATCH
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as content:
            facts = content.metadata() or {}
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        history = None
        if "last_step" in arrays:
            history = RowHistory(arrays["last_step"], arrays["times"], arrays["recent_new"])
        return RecordedBatch(
            step=int(facts["step"]),
            n_rows=int(facts["n_rows"]),
            micro_batches=int(facts["micro_batches"]),
            x_shape=facts["x_shape"],
            y_shape=facts["y_shape"],
            x=arrays.get("x"),
            y=arrays.get("y"),
            losses=arrays.get("losses"),
            top=arrays.get("top"),
            probabilities=arrays.get("probabilities"),
            history=history,
            n_classes=int(facts.get("n_classes", 0)),
            row_classes=arrays.get("row_classes"),
            class_names=tuple(loads(facts.get("class_names", "[]"))),
            ignore_index=int(facts.get("ignore_index", IGNORED)),
        )
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"damaged: {path}") from error
