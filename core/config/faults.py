"""The classic mistakes, each a switch: `faults = ["double_softmax"]` in a config. Needs no torch.

They are for teaching, and for testing the doctor, which must name each of them.
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
    """A mistake that can be planted into a run.

    description: what is wrong. finding: the code of the doctor's finding that names it.
    """

    name: FaultName
    part: Part
    description: str
    finding: str


def _faults(part: Part, **descriptions: str | tuple[str, str]) -> list[Fault]:
    """Faults by name; a tuple gives a description and a finding whose code differs from the name."""
    return [
        Fault(name, part, *((text, name) if isinstance(text, str) else text))  # type: ignore[arg-type]
        for name, text in descriptions.items()
    ]


_ALL = [
    *_faults(
        "data",
        shifted_targets="Targets are shifted one position too far: y[t] = x[t+2] instead of x[t+1].",
        copied_targets="The targets equal the inputs: y = x.",
        swapped_rows="Each row of x comes with the y of another example.",
        unmasked_targets="The prompt's targets are not ignored: the loss counts digits that cannot be predicted.",
        ignored_targets="All targets but one per row are ignored.",
        shuffle_every_step="The loader reshuffles at every step.",
        constant_batch="Every step draws the same examples, although none were pinned.",
        leaked_validation="The validation examples are training examples.",
        wrong_vocab="The vocabulary size is a constant that does not match the tokenizer.",
    ),
    *_faults(
        "model",
        no_mask=("Attention has no causal mask: each position sees the answers.", "causal_leak"),
        late_mask=("The causal mask is off by one: each position sees the next token.", "causal_leak"),
        softmax_over_queries=("The softmax of attention runs over the queries, not the keys.", "attention_rows"),
        unscaled_scores=("The attention scores are not divided by √d_head.", "score_scale"),
        no_positions="The position embedding is created but never added.",
        batch_mixing="A mean over the batch is subtracted, so the rows influence each other.",
        input_ignored="The embedding is multiplied by zero, so the model never sees its input.",
        no_context="The output of attention is dropped, so each position sees only itself.",
        frozen_layer=("A layer's parameters do not require gradients.", "frozen_parameters"),
        unregistered_layer=(
            "The layers are in a plain list, so their parameters are not parameters of the model.",
            "unregistered_parameters",
        ),
        detached_layer=("A detach() cuts the graph, so no gradient reaches the layers below.", "missing_gradient"),
        tied_head="The head shares its weights with the embedding by mistake.",
        large_init=("The initial weights are fifty times too large.", "initial_loss"),
        dead_relus="The biases of the feed-forward layers are so low that no unit ever fires.",
        not_finite="A layer divides by zero.",
        unseeded_noise=("Noise is drawn from a generator that no seed sets.", "nondeterministic"),
        dropout_in_eval="Dropout stays active during evaluation.",
    ),
    *_faults(
        "loss",
        double_softmax="Softmax is applied before the cross-entropy, which already includes it.",
        double_shift="The loss shifts targets that are already shifted.",
        summed_loss="The loss is summed over the targets, not averaged.",
        wrong_divisor="The summed loss is divided by the number of rows, not by the number of counted targets.",
        gradient_ascent="The sign of the loss is wrong, so training maximizes it.",
    ),
    *_faults(
        "training",
        eval_in_training="The model trains in evaluation mode, so its dropout is never applied.",
        no_zero_grad="The gradients are never cleared, so they add up over the steps.",
        missing_from_optimizer="The head's parameters are missing from the optimizer.",
        stale_optimizer="The optimizer holds the parameters of a copy of the model.",
        lr_too_high="The learning rate is ten thousand times too high.",
        lr_too_low="The learning rate is a hundred thousand times too low.",
    ),
]
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}

assert set(FAULTS) == set(get_args(FaultName))

NEED_DROPOUT: frozenset[str] = frozenset({"dropout_in_eval", "eval_in_training"})
"""Faults that change nothing without dropout."""
ONLY_REVERSE: frozenset[str] = frozenset({"unmasked_targets"})
ONLY_OURS: frozenset[str] = frozenset(
    {"no_mask", "late_mask", "softmax_over_queries", "unscaled_scores", "no_context", "no_positions", "tied_head"}
)
"""Faults in the code of the built-in attention and embedding."""
