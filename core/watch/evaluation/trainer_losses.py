"""The losses that a Trainer of transformers reports of an evaluation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tui_lab.core.watch.code.data_parts import is_validation
from tui_lab.core.watch.evaluation.evaluations import Evaluation

SAME = 1e-4
"""Relative difference up to which the loss that was observed is the reported one: the Trainer adds in float32."""
SEVERAL = "no validation loss is recorded: the Trainer evaluates data sets with names, and none is called val"
AGAIN = (
    "the Trainer evaluated twice after the same step, with other weights or data, as with load_best_model_at_end. The "
    "first loss is the validation loss; the second one is in the events as 'loss evaluated again'"
)


@dataclass(frozen=True)
class TrainerLosses:
    """losses: by the part of the data. validation: the name of that for validation, None if there is none.

    examples: how many were evaluated; 0: unknown.
    """

    losses: dict[str, float]
    validation: str | None
    examples: int

    @property
    def val_loss(self) -> float | None:
        return None if self.validation is None else self.losses[self.validation]

    def evaluation(self, observed: Evaluation | None) -> Evaluation:
        """Return the evaluation to record.

        observed: what was seen of it; the same loss shows that it is a cross-entropy.
        """
        loss = self.val_loss
        if loss is None:
            warning = "" if set(self.losses) == {"test"} else SEVERAL
            return Evaluation(self.losses, None, 0, is_cross_entropy=False, warning=warning)
        is_same = observed is not None and any(
            math.isclose(loss, seen, rel_tol=SAME) for seen in observed.losses.values()
        )
        return Evaluation(
            losses=self.losses,
            validation=self.validation,
            examples=self.examples,
            is_cross_entropy=is_same and observed is not None and observed.is_cross_entropy,
        )

    def repeated(self, val_loss: float) -> Evaluation | None:
        """Return the evaluation to record if one after the same step gave `val_loss`: None for the same result."""
        loss = self.val_loss
        if loss is None or math.isclose(loss, val_loss, rel_tol=SAME):
            return None
        return Evaluation({"evaluated again": loss}, None, 0, is_cross_entropy=False, warning=AGAIN)


def losses_in(metrics: Mapping[str, Any], examples: int) -> TrainerLosses | None:
    """Return the losses among a Trainer's metrics, None if there is none. examples: that it evaluated, 0 if unknown.

    eval_loss is that of the validation. Data sets with names have their own, such as eval_val_loss; and a prefix
    that the script chose may come before it, as in test_loss.
    """
    losses = {
        name.removesuffix("_loss").removeprefix("eval_"): float(value)
        for name, value in metrics.items()
        if name.endswith("_loss") and isinstance(value, int | float)
    }
    if "eval" in losses:  # Others are metrics that the script computes.
        return TrainerLosses({"val": losses["eval"]}, "val", examples)
    named = [name for name in losses if is_validation(name) and name != "test"]
    return TrainerLosses(losses, named[0] if named else None, examples) if losses else None
