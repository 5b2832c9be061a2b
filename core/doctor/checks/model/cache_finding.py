"""The finding of logits with a key/value cache that differ from those without one."""

from dataclasses import dataclass
from typing import Literal

from tui_lab.core.doctor.findings import Finding

Cause = Literal["", "leak", "restart"]
"""Why they differ. leak: the pass over the prompt has no causal mask. restart: each token is at position 0 again."""


@dataclass(frozen=True)
class CacheDifference:
    """A pass whose last logits differ from those of a full pass over the same `n_tokens` tokens.

    number: of the pass; 0: the one over the prompt. relative: to the range of the logits.
    """

    number: int
    n_tokens: int
    relative: float


def cache_finding(difference: CacheDifference, cause: Cause = "") -> Finding:
    """Return the finding of a difference. cause: "" if it is not known."""
    title, fix = _CAUSES[cause or ("prompt" if difference.number == 0 else "token")]
    return Finding(
        code="cache_differs",
        title=title.format(number=difference.number),
        evidence=f"after {difference.n_tokens} tokens, the next token's logits differ from a full pass by "
        f"{difference.relative:.2g} of their range",
        why="The loss is computed without the cache, so it shows nothing of this; the generated text is wrong.",
        fix=fix,
    )


_CAUSES = {
    "prompt": (
        "With the cache, the pass over the prompt computes other logits than without it.",
        "Give the prompt's pass the same causal mask and positions as a pass without a cache.",
    ),
    "token": (
        "With the cache, generation computes other logits from its token {number} on.",
        "Append keys and values along the time axis, continue the positions (start = cached length), and mask nothing "
        "but padding for a single new token.",
    ),
    "leak": (
        "With the cache, the pass over the prompt has no causal mask: generation starts from states that saw later "
        "tokens.",
        "Mask the prompt's pass (prefill) as in training: of the rows of the causal mask, take those after the cached "
        "length.",
    ),
    "restart": (
        "In generation with the cache, positions start again at 0 with each new token.",
        "Continue the positions: torch.arange(start, start + T) with start = the number of cached tokens.",
    ),
}
"""The title and the fix for each known cause, and for a difference of another cause at the prompt or a later token."""
