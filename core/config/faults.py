"""The classic mistakes, each a switch: `faults = ["double_softmax"]` in a config. Needs no torch.

For teaching, since what a mistake looks like is best seen by making it, and for testing the doctor, which must name
each of them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

FaultName = Literal[
    "shifted_targets", "copied_targets", "swapped_rows", "unmasked_targets", "ignored_targets", "shuffle_every_step",
    "constant_batch", "leaked_validation", "wrong_vocab",
    "no_mask", "late_mask", "softmax_over_queries", "unscaled_scores", "no_positions", "batch_mixing",
    "input_ignored", "no_context", "frozen_layer", "unregistered_layer", "detached_layer", "tied_head", "large_init",
    "dead_relus", "not_finite", "unseeded_noise", "dropout_in_eval",
    "double_softmax", "double_shift", "summed_loss", "wrong_divisor", "gradient_ascent",
    "eval_in_training", "no_zero_grad", "missing_from_optimizer", "stale_optimizer", "lr_too_high", "lr_too_low",
]  # fmt: skip

Part = Literal["data", "model", "loss", "training"]


@dataclass(frozen=True)
class Fault:
    """One mistake. finding: the code of the doctor's finding that names it."""

    name: FaultName
    part: Part
    mistake: str
    """As one would confess it."""
    finding: str


def _faults(part: Part, **mistakes: str | tuple[str, str]) -> list[Fault]:
    return [
        Fault(name, part, *((mistake, name) if isinstance(mistake, str) else mistake))  # type: ignore[arg-type]
        for name, mistake in mistakes.items()
    ]


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *_faults(
            "data",
            shifted_targets="The targets are one position too far: y[t] = x[t+2] where x[t+1] was meant.",
            copied_targets="The targets are the inputs: y = x.",
            swapped_rows="Each row of x stands beside the y of another example.",
            unmasked_targets="The prompt's targets are not ignored: the loss asks for digits that nobody can know.",
            ignored_targets="Nearly every target is ignored; one a row is left.",
            shuffle_every_step="The loader shuffles anew at every step.",
            constant_batch="Every step draws the same examples though none were pinned.",
            leaked_validation="The validation examples are training examples.",
            wrong_vocab="The vocabulary size was written down instead of asked of the tokenizer.",
        ),
        *_faults(
            "model",
            no_mask=("Attention has no causal mask: each position sees the answers.", "causal_leak"),
            late_mask=("The causal mask is one position late: each position sees the next token.", "causal_leak"),
            softmax_over_queries=("The softmax of attention runs over the queries, not the keys.", "attention_rows"),
            unscaled_scores=("The scores are not divided by √d_head.", "score_scale"),
            no_positions="The position embedding is made but never added.",
            batch_mixing="A mean over the batch is subtracted: the rows see each other.",
            input_ignored="The embedding is multiplied by zero: the model never sees its input.",
            no_context="The output of attention is dropped: each position sees itself alone.",
            frozen_layer=("A layer's parameters do not ask for gradients.", "frozen_parameters"),
            unregistered_layer=("The layers stand in a plain list: the model does not own their parameters.",
                                "unregistered_parameters"),
            detached_layer=("A detach cuts the graph: no gradient reaches what lies below.", "missing_gradient"),
            tied_head="The head shares its weights with the embedding, which was not meant.",
            large_init=("The weights begin fifty times too large.", "initial_loss"),
            dead_relus="The biases of the feed-forward layers are so low that no unit ever fires.",
            not_finite="A layer divides by zero.",
            unseeded_noise=("Noise is drawn from a source that no seed reaches.", "nondeterministic"),
            dropout_in_eval="Dropout stays on when the model is evaluated.",
        ),
        *_faults(
            "loss",
            double_softmax="A softmax stands before the cross-entropy, which has its own.",
            double_shift="The loss shifts targets that were shifted already.",
            summed_loss="The loss is summed over the targets, not averaged.",
            wrong_divisor="The summed loss is divided by the rows, not by the targets that count.",
            gradient_ascent="The sign of the loss is wrong: training climbs.",
        ),
        *_faults(
            "training",
            eval_in_training="The model is trained in evaluation mode, so its dropout never acts.",
            no_zero_grad="The gradients are never cleared, so they add up over the steps.",
            missing_from_optimizer="The optimizer was not given the head's parameters.",
            stale_optimizer="The optimizer holds the parameters of a copy of the model.",
            lr_too_high="The learning rate is ten thousand times what was meant.",
            lr_too_low="The learning rate is a hundred-thousandth of what was meant.",
        ),
    )
}  # fmt: skip

assert set(FAULTS) == set(get_args(FaultName))

NEED_DROPOUT: frozenset[str] = frozenset({"dropout_in_eval", "eval_in_training"})
"""Without dropout these change nothing."""
ONLY_REVERSE: frozenset[str] = frozenset({"unmasked_targets"})
ONLY_OURS: frozenset[str] = frozenset(
    {"no_mask", "late_mask", "softmax_over_queries", "unscaled_scores", "no_context", "no_positions", "tied_head"}
)
"""They reach into the lab's own attention and embedding."""
