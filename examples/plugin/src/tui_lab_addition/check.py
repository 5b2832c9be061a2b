"""A check of the doctor."""

from collections.abc import Iterator

import torch

from tui_lab.plugins import Examined, Finding, finding

MOST = 0.5
"""Share of the targets that one token may have. Such a model can be right half of the time without looking at x."""
BATCHES = 4


def frequent_target(program: Examined) -> Iterator[Finding]:
    """Whether most targets are the same token. It counts the targets of four batches."""
    targets = torch.cat([program.targets(step).flatten() for step in range(BATCHES)])
    targets = targets[targets != program.ignored]
    ids, counts = targets.unique(return_counts=True)
    share = int(counts.max()) / len(targets)
    if share > MOST:
        token = program.text(int(ids[counts.argmax()]))
        yield finding(
            "one_token",
            "Most targets are the same token.",
            evidence=f"{share:.0%} of {len(targets):,} targets are {token!r}",
            why="A model that always answers with this token has a low loss, and has learned nothing.",
            fix="Balance the examples, or look at the loss of each token: tui-lab examples RUN.",
            kind="hint",
        )
