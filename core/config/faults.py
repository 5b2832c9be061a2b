"""Faults that a config can plant, as in `faults = ["double_softmax"]`. Needs no torch.

They are for teaching, since a mistake is best understood by making it, and for testing the doctor, which must find
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
    """One fault. mistake: a description; finding: the code of the doctor's finding for it."""

    name: FaultName
    part: Part
    mistake: str
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
            shifted_targets="The targets are shifted one position too far: y[t] = x[t+2] instead of x[t+1].",
            copied_targets="The targets are the inputs: y = x.",
            swapped_rows="Each row of x has the y of another example.",
            unmasked_targets="The prompt's targets are not ignored, so the loss includes unpredictable digits.",
            ignored_targets="All targets but one per row are ignored.",
            shuffle_every_step="The loader shuffles at every step.",
            constant_batch="Every step draws the same examples, although overfit is off.",
            leaked_validation="The validation examples are training examples.",
            wrong_vocab="The vocabulary size was typed by hand instead of read from the tokenizer.",
        ),
        *_faults(
            "model",
            no_mask=("Attention has no causal mask: each position sees later tokens.", "causal_leak"),
            late_mask=("The causal mask is one position late: each position sees the next token.", "causal_leak"),
            softmax_over_queries=("The attention softmax is over the queries instead of the keys.", "attention_rows"),
            unscaled_scores=("The scores are not divided by √d_head.", "score_scale"),
            no_positions="The position embedding is created but never added.",
            batch_mixing="A mean over the batch is subtracted, so rows influence each other.",
            input_ignored="The embedding is multiplied by zero: the model never sees its input.",
            no_context="The output of attention is discarded: each position only sees itself.",
            frozen_layer=("The parameters of a layer have requires_grad = False.", "frozen_parameters"),
            unregistered_layer=("The layers are in a plain list, so the model does not have their parameters.",
                                "unregistered_parameters"),
            detached_layer=("A detach cuts the graph: no gradient reaches the layers below.", "missing_gradient"),
            tied_head="The head shares its weights with the embedding by accident.",
            large_init=("The initial weights are fifty times too large.", "initial_loss"),
            dead_relus="The biases of the feed-forward layers are so low that no ReLU is ever active.",
            not_finite="A layer divides by zero.",
            unseeded_noise=("Noise is drawn from a generator without a seed.", "nondeterministic"),
            dropout_in_eval="Dropout stays active during evaluation.",
        ),
        *_faults(
            "loss",
            double_softmax="A softmax precedes the cross-entropy, which includes one.",
            double_shift="The loss shifts targets that are shifted already.",
            summed_loss="The loss is the sum over the targets instead of the mean.",
            wrong_divisor="The summed loss is divided by the number of rows instead of targets.",
            gradient_ascent="The sign of the loss is wrong: training increases it.",
        ),
        *_faults(
            "training",
            eval_in_training="The model is trained in evaluation mode, so dropout is never active.",
            no_zero_grad="The gradients are never set to zero, so they accumulate.",
            missing_from_optimizer="The optimizer does not have the parameters of the head.",
            stale_optimizer="The optimizer has the parameters of a copy of the model.",
            lr_too_high="The learning rate is 10,000 times too high.",
            lr_too_low="The learning rate is 100,000 times too low.",
        ),
    )
}  # fmt: skip

assert set(FAULTS) == set(get_args(FaultName))

NEED_DROPOUT: frozenset[str] = frozenset({"dropout_in_eval", "eval_in_training"})
"""Faults that change nothing without dropout."""
ONLY_REVERSE: frozenset[str] = frozenset({"unmasked_targets"})
ONLY_OURS: frozenset[str] = frozenset(
    {"no_mask", "late_mask", "softmax_over_queries", "unscaled_scores", "no_context", "no_positions", "tied_head"}
)
"""Faults in the code of the built-in attention and embedding."""
