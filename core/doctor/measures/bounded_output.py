"""Do a model's scores stay between 0 and 1 whatever its weights are? Then they are probabilities, not logits."""

import torch

from tui_lab.core.doctor.loop.criterion_inputs import made_by
from tui_lab.core.doctor.measures.loss_gradient import scores
from tui_lab.core.doctor.program.target import Target

N_DRAWS = 8
"""Random weights of scale 1 and 3 give a linear output values outside of [0, 1] in almost every row of every draw."""


def why_bounded(target: Target) -> str:
    """Return how it is known that all scores of the model are between 0 and 1, or "" if they are not.

    Small scores of an untrained model are all within these limits by chance, so their values alone show nothing.
    Raises NotJudged if the model cannot be copied or does not return scores.
    """
    with target.evaluating(), torch.enable_grad():
        maker = made_by(scores(target, target.output(target.probe.batch)))
    if maker in ("softmax", "sigmoid"):
        return f"torch's graph shows that the model's output comes from {maker}"
    if maker == "linear":
        return ""
    trial = target.fresh()
    generator = torch.Generator().manual_seed(target.seed)
    for draw in range(N_DRAWS):
        with trial.evaluating(), torch.no_grad():
            for parameter in trial.model.parameters():
                noise = torch.randn(parameter.shape, generator=generator) * (1.0 if draw % 2 else 3.0)
                parameter.copy_(noise)
            values = scores(trial, trial.output(trial.probe.batch))
            if not bool(((values >= 0) & (values <= 1)).all()):  # NaN is outside, too.
                return ""
    return f"the model returns values between 0 and 1 even with {N_DRAWS} draws of random weights"
