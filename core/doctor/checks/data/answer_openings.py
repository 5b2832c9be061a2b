"""Do the targets of a row begin where its answer does? Called by the check of prompts.

What opens an answer is known from the chat template of the script's tokenizer. Without one, it is the id after which
the targets begin in the rows whose prompts are ignored.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.measures.trained_targets import TrainedBatch, TrainedTargets, are_next_ids
from tui_lab.core.doctor.program.target import Target

MIN_ROWS = 16
MIN_PROMPT = 3
"""Ids before the answer, of which the first can be no target."""
TRAINED = 0.9
"""Fraction of the ids of a prompt that are targets if it is trained."""
IGNORED = 0.1
"""The same, if it is ignored."""
MOST = 0.95
"""Fraction of the rows that a statement on all of them needs."""
FEW = 0.05
"""Fraction of the rows below which they may be of another kind, such as plain text."""
MIN_SHARE = 0.1
"""Fraction of the trained targets that prompts have at least, to be mentioned."""
MIN_IGNORED_IDS = 3
"""Different ignored ids of the prompts: fewer may stand for images or the start of a row."""


@dataclass(frozen=True)
class _Row:
    """ids of one row without padding, and which of them are trained targets."""

    ids: Sequence[int]
    is_target: Sequence[bool]

    def start(self, opening: Sequence[int]) -> int:
        """Return where `opening` begins for the first time; -1 if nowhere, or if too little is before it."""
        n = len(opening)
        places = (i for i in range(len(self.ids) - n + 1) if tuple(self.ids[i : i + n]) == tuple(opening))
        first = next(places, -1)
        return first if first >= MIN_PROMPT else -1


@dataclass(frozen=True)
class _Prompt:
    """The prompt of one row: which of its ids are targets, the first one left out, and how many later ones are."""

    ids: Sequence[int]
    is_target: Sequence[bool]
    n_answer: int

    @property
    def share(self) -> float:
        return sum(self.is_target) / len(self.is_target)


def check_openings(target: Target, trained: TrainedTargets) -> Iterator[Finding]:
    """Yield a finding if the prompts of some rows are trained and those of others ignored, a hint if all are."""
    batches = [batch for batch in trained.batches if are_next_ids(batch, target.ignored)]
    rows = [row for batch in batches for row in _rows(batch, target.ignored)]
    if len(rows) < MIN_ROWS:
        return
    for opening in target.answer_openings:
        prompts = _prompts(rows, opening)
        if len(prompts) >= MOST * len(rows):
            yield from _judge(target, prompts, "the chat template of the script's tokenizer")
            return
    token = _opening_of_targets(rows)
    if token is not None:
        known_from = f"the id {target.show(token)}, after which the other targets begin"
        yield from _mixed(target, _prompts(rows, (token,)), known_from)


def _rows(batch: TrainedBatch, ignored: int) -> Iterator[_Row]:
    counted = (batch.trained != ignored).tolist()
    for ids, is_counted in zip(batch.x.tolist(), counted, strict=True):
        n = len(ids)
        while n > 1 and ids[n - 2] == ids[-1]:  # What is repeated at the end is padding, but for its first.
            n -= 1
        yield _Row(ids[:n], [False, *is_counted[: n - 1]])


def _prompts(rows: Sequence[_Row], opening: Sequence[int]) -> list[_Prompt]:
    """Return the prompts of the rows that have an answer."""
    starts = [(row, row.start(opening)) for row in rows]
    return [
        _Prompt(row.ids[1:start], row.is_target[1:start], sum(row.is_target[start + len(opening) :]))
        for row, start in starts
        if start > 0
    ]


def _opening_of_targets(rows: Sequence[_Row]) -> int | None:
    """Return the id after which the targets begin where a prompt is ignored, if rows without a mask have it, too."""
    masked = [(row, row.is_target.index(True)) for row in rows if True in row.is_target]
    masked = [(row, first) for row, first in masked if first > MIN_PROMPT]
    whole = [row for row in rows if sum(row.is_target) >= TRAINED * (len(row.ids) - 1)]
    if min(len(masked), len(whole)) < max(2, FEW * len(rows)):
        return None
    opening, n = Counter(row.ids[first - 1] for row, first in masked).most_common(1)[0]
    n_once = sum(list(row.ids[:first]).count(opening) == 1 for row, first in masked)
    n_having = sum(row.start((opening,)) > 0 for row in whole)
    return opening if min(n, n_once) >= MOST * len(masked) and n_having >= MOST * len(whole) else None


def _judge(target: Target, prompts: Sequence[_Prompt], known_from: str) -> Iterator[Finding]:
    mixed = list(_mixed(target, prompts, known_from))
    if mixed:
        yield from mixed
        return
    n_answer = sum(prompt.n_answer for prompt in prompts)
    n_trained = sum(sum(prompt.is_target) for prompt in prompts)
    share = n_trained / max(1, n_trained + n_answer)
    if not n_answer or share < MIN_SHARE:
        return
    if sum(prompt.share >= TRAINED for prompt in prompts) >= MOST * len(prompts):
        yield _all_trained(target, len(prompts), share, known_from)
    elif sum(IGNORED < prompt.share < TRAINED for prompt in prompts) >= MOST * len(prompts):
        ids = ((i, counts) for prompt in prompts for i, counts in zip(prompt.ids, prompt.is_target, strict=True))
        if len({i for i, counts in ids if not counts}) >= MIN_IGNORED_IDS:
            yield _partly_trained(target, prompts, share, known_from)


def _mixed(target: Target, prompts: Collection[_Prompt], known_from: str) -> Iterator[Finding]:
    """Yield a finding if each prompt is either trained or ignored, and there are some of both."""
    n = len(prompts)
    n_trained = sum(prompt.share >= TRAINED for prompt in prompts)
    n_ignored = sum(prompt.share <= IGNORED for prompt in prompts)
    if min(n_trained, n_ignored) < max(2, FEW * n) or n_trained + n_ignored < MOST * n:
        return
    yield Finding(
        code="prompt_trained",
        title=f"The prompt is trained, too, in {n_trained} of {n} rows; in the others it is ignored.",
        evidence=f"where the answer begins is known from {known_from}: in {n_ignored} rows no target comes before it, "
        f"in {n_trained} nearly all ids before it are targets",
        why="The rows whose prompts are trained have more targets, so that they dominate the gradient, and the model "
        "learns to write prompts.",
        fix=f"Set the targets up to the answer to {target.ignored} in every row. If the script searches for what opens "
        "the answer, compare ids: the same text can have other ids after a line break or a space.",
    )


def _all_trained(target: Target, n: int, share: float, known_from: str) -> Finding:
    return Finding(
        code="prompt_trained",
        kind="hint",
        title=f"The prompts are trained, too: {share:.0%} of the trained targets come before the answers.",
        evidence=f"{n} rows, whose answers begin where {known_from} opens them",
        why="It is a choice: the model also learns to write prompts, and less of the gradient is about the answers.",
        fix=f"To train the answers only, set the targets of the prompts to {target.ignored}: completion_only_loss=True "
        "or assistant_only_loss=True in TRL.",
    )


def _partly_trained(target: Target, prompts: Sequence[_Prompt], share: float, known_from: str) -> Finding:
    n_ignored = sorted(len(prompt.ids) - sum(prompt.is_target) for prompt in prompts)[len(prompts) // 2]
    length = sorted(len(prompt.ids) for prompt in prompts)[len(prompts) // 2]
    return Finding(
        code="prompt_trained",
        kind="hint",
        title=f"Only a part of each prompt is ignored: {share:.0%} of the trained targets come before the answers.",
        evidence=f"{len(prompts)} rows, whose answers begin where {known_from} opens them; a typical row ignores "
        f"{n_ignored} of the {length} ids before",
        why="The model also learns to write the rest of the prompt, and less of the gradient is about the answers.",
        fix=f"Set all targets before the answer to {target.ignored}, not only those of the system's part.",
    )
