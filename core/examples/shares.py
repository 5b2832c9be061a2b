"""Where the loss of a run lies: its share by class of target."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.measure import MeasuredRows
from tui_lab.core.examples.report import Partition, Share
from tui_lab.core.examples.token_kinds import KINDS, TokenKinds
from tui_lab.data.dataset import Task
from tui_lab.data.tasks.reverse import ReverseExamples
from tui_lab.data.tasks.text import TextWindows

Ids = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
CHUNK = 2**22
"""Tokens whose counts are taken at once."""
CONTEXT_TOKENS = 64
"""Tokens before a window that are looked at, to see whether a sentence begins there."""
BANDS = (
    ("at least 1 in 1,000", 1e-3),
    ("at least 1 in 10,000", 1e-4),
    ("less often", 0.0),
)
"""How often a token is in the training part, of all its tokens: name and least rate of each band."""
UNSEEN = "not in the training part"


@dataclass
class Classes:
    """Sums by class. of: gives the class of each counted target of some rows, in the order of rows and positions."""

    name: str
    names: tuple[str, ...]
    of: Callable[[MeasuredRows], Ids]
    n: Counts = field(init=False)
    losses: npt.NDArray[np.float64] = field(init=False)
    wrong: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.n = np.zeros(len(self.names), np.int64)
        self.losses = np.zeros(len(self.names))
        self.wrong = np.zeros(len(self.names), np.int64)

    def add(self, measured: MeasuredRows) -> None:
        """Take some rows."""
        classes = self.of(measured)
        counted = measured.counted
        n = len(self.names)
        self.n += np.bincount(classes, minlength=n)
        self.losses += np.bincount(classes, measured.losses[counted].astype(np.float64), n)
        self.wrong += np.bincount(classes[measured.wrong[counted]], minlength=n)

    def partition(self) -> Partition:
        """Return the shares of the classes that have targets."""
        targets = max(1, int(self.n.sum()))
        total = float(self.losses.sum())
        return Partition(
            self.name,
            tuple(
                Share(
                    name,
                    int(n),
                    float(loss / n),
                    float(n / targets),
                    float(loss / total) if total else 0.0,
                    float(wrong / n),
                )
                for name, n, loss, wrong in zip(self.names, self.n, self.losses, self.wrong, strict=True)
                if n
            ),
        )


def classes_of(task: Task, dataset: object) -> list[Classes]:
    """Return the classes for the targets of a dataset of the task."""
    if isinstance(dataset, ReverseExamples):
        return [by_position(dataset.digits), by_digit(dataset.n_digits)]
    classes = []
    kinds = TokenKinds(task.tokenizer)
    if kinds.has_texts:
        classes.append(by_kind(kinds, dataset))
    if isinstance(task.train, TextWindows):
        classes.append(by_frequency(token_counts(task.train, task.tokenizer.n_vocab)))
    return classes


def by_position(n_digits: int) -> Classes:
    """Return classes for the rows of the reverse task: output digit 1 is input digit L, and so on."""
    names = tuple(f"output {i + 1}, input {n_digits - i}" for i in range(n_digits))

    def of(measured: MeasuredRows) -> Ids:
        return np.broadcast_to(np.arange(n_digits), (len(measured.ids), n_digits)).flatten()

    return Classes("digit position", names, of)


def by_digit(n_symbols: int) -> Classes:
    """Return a class for each digit."""
    symbols = tuple("0123456789abcdefghijklmnopqrstuvwxyz"[:n_symbols])
    return Classes("digit", symbols, lambda measured: measured.y[measured.counted])


def by_kind(kinds: TokenKinds, dataset: object) -> Classes:
    """Return a class for each kind of text."""

    def of(measured: MeasuredRows) -> Ids:
        parts = []
        for example, x, y, counted in zip(measured.ids.tolist(), measured.x, measured.y, measured.counted, strict=True):
            before = tokens_before(dataset, example)
            # In a text, the targets are the inputs one token later.
            after = np.where(counted, y, np.append(x[1:], x[-1]))
            ids = [*before, int(x[0]), *after.tolist()]
            parts.append(kinds.of(ids, len(before) + 1)[counted])
        return np.concatenate(parts)

    return Classes("kind of token", KINDS, of)


def tokens_before(dataset: object, example: int) -> list[int]:
    """Return up to CONTEXT_TOKENS tokens of the text before a window; none for other datasets."""
    if not isinstance(dataset, TextWindows):
        return []
    start = example * dataset.stride
    before = dataset.tokens[max(0, start - CONTEXT_TOKENS) : start]
    tokens: list[int] = (dataset.compact(before) if dataset.compact else before).tolist()
    return tokens


def by_frequency(counts: Counts) -> Classes:
    """Return a class for each band of how often a token is in the training part. counts: of each token id."""
    rates = counts / max(1, int(counts.sum()))
    bands = np.full(len(counts), len(BANDS), np.int64)
    for number, (_, least) in reversed(list(enumerate(BANDS))):
        bands[(counts > 0) & (rates >= least)] = number
    names = (*(name for name, _ in BANDS), UNSEEN)
    return Classes("frequency in the training part", names, lambda measured: bands[measured.y[measured.counted]])


def token_counts(train: TextWindows, n_vocab: int) -> Counts:
    """Count each token of the training part, a chunk at a time: int64 [n_vocab]."""
    counts = np.zeros(n_vocab, np.int64)
    for start in range(0, len(train.tokens), CHUNK):
        chunk = train.tokens[start : start + CHUNK]
        counts += np.bincount(train.compact(chunk) if train.compact else chunk, minlength=n_vocab)
    return counts
