"""Do two runs of one seed agree, and does dropout act when it should? Cost: four forward passes, two updates."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import Probe, Subject
from tui_lab.core.user_code.external_model import logits_of


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    with subject.evaluating(), torch.no_grad():
        first = subject.logits(probe.x)
        subject.logits(probe.x.flip(0).flip(1))  # A state that is carried over shows after another batch.
        second = subject.logits(probe.x)
    if not _same(first, second):
        yield _nondeterministic(_difference(first, second), "two forward passes of one seed")
        return
    yield from _dropout_in_evaluation(subject, probe)
    if not any(p.requires_grad for p in subject.model.parameters()):
        return
    one, other = (_first_gradients(subject, probe) for _ in range(2))
    for name in one.keys() & other.keys():
        if not _same(one[name], other[name]):
            yield _nondeterministic(_difference(one[name], other[name]), f"gradients of one seed, in {name}")
            return


def _first_gradients(subject: Subject, probe: Probe) -> dict[str, Tensor]:
    """What the first backward pass of an update gives: weights may follow a schedule, or a count of calls."""
    trial = subject.fresh()
    first: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[[Tensor], None]:
        def keep(p: Tensor) -> None:
            if p.grad is not None:
                first.setdefault(name, p.grad.detach().to_dense().clone())

        return keep

    for name, p in trial.model.named_parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(keeping(name))  # type: ignore[no-untyped-call]
    torch.manual_seed(subject.seed)
    trial.update(trial.model, trial.optimizers, probe.x, probe.y)
    return first


def _dropout_in_evaluation(subject: Subject, probe: Probe) -> Iterator[Finding]:
    """With two seeds: whatever acts now is drawn from torch's generator."""
    with subject.evaluating(), torch.no_grad():
        outputs = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            outputs.append(logits_of(subject.model, probe.x))
    if not _same(*outputs):
        yield Finding(
            "dropout_in_eval",
            "Dropout acts while the model is evaluated.",
            f"after model.eval() two passes of other seeds differ by {_difference(*outputs):.3g}",
            "The validation loss is measured on a crippled model and jumps about; generation stutters.",
            "Call model.eval() before measuring, and give F.dropout its training=self.training.",
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _nondeterministic(difference: float, where: str) -> Finding:
    return Finding(
        "nondeterministic",
        "Two runs of the same seed do not agree.",
        f"{where}: they differ by up to {difference:.3g}",
        "No result can be repeated, and no change can be judged by one run.",
        "Draw every random number from a generator that the seed sets; look for noise from numpy, os or time.",
    )
