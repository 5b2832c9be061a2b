"""Copies for trials: functions of a model refer to the copy, and a copy that does not stand alone is not judged."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.doctor.test_checks import Small, T, V, case, codes, pair
from tui_lab import examine
from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.program.case_target import target_from_case
from tui_lab.core.doctor.program.copies import Copies


class Closure(Small):
    """As minGPT: a function of the module calls the module's parts."""

    def __init__(self) -> None:
        super().__init__()
        parts = nn.ModuleDict({"mix": self.mix, "head": self.head})
        self.parts = parts
        self.mlp = lambda e: parts["head"](torch.tanh(parts["mix"](e)))

    def forward(self, x: Tensor) -> Tensor:
        e = self.tokens(x)
        logits: Tensor = self.mlp(e + e.cumsum(dim=1) / T)  # type: ignore[no-untyped-call]
        return logits


class Tied(Small):
    """As x-transformers: the head is a function of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        tokens, out = self.tokens, nn.Linear(32, 16)
        del self.head
        self.out = out
        self.to_logits = functools.partial(lambda table, h: out(h) @ table.weight.t(), tokens)

    def forward(self, x: Tensor) -> Tensor:
        e = self.tokens(x)
        logits: Tensor = self.to_logits(torch.tanh(self.mix(e + e.cumsum(dim=1) / T)))
        return logits


class Hooked(Small):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(V))
        gain = self.gain
        self.head.register_forward_hook(lambda module, inputs, output: output * gain)


class Computed(Small):
    """Keeps a tensor of its last forward pass, which deepcopy refuses."""

    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        return self.last


@pytest.mark.parametrize(
    "kind", [Tied, Computed, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (Closure, Hooked))]
)
def test_model_with_functions_of_its_own_is_healthy_and_unchanged(kind: type[Small]) -> None:
    model = kind()
    model(pair()[0])
    before = [p.clone() for p in model.parameters()]
    report = examine(case(model))
    assert report.findings == () and report.crashed == () and "gradients" in report.passed
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))


def test_copy_computes_with_its_own_parameters_only() -> None:
    model = Tied()
    copies = Copies(model, [])
    owned = {id(p) for p in model.parameters()}
    assert not any(id(p) in owned for p in copies.model.parameters())
    copies.model(pair()[0]).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in copies.model.parameters())


def test_function_that_uses_a_scheduler_gets_that_of_the_copy() -> None:
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def update() -> None:
        optimizer.step()
        scheduler.step()

    copies = Copies(model, [optimizer])
    copies.rebound(update)()
    assert copies.optimizers[0].param_groups[0]["lr"] == 0.5 and optimizer.param_groups[0]["lr"] == 1.0


class SignDescent(torch.optim.Optimizer):
    """Keeps functions as attributes, as optimizers outside torch do: one of its module, and one that is bound."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.5})
        self.update = torch.sign
        self.groups = self.own_groups

    def own_groups(self) -> list[dict[str, Any]]:
        return self.param_groups

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # Torch has overloads.
        with torch.no_grad():
            for group in self.groups():
                for parameter in group["params"]:
                    parameter -= group["lr"] * self.update(parameter.grad)


def test_functions_that_an_optimizer_keeps_are_those_of_the_copy() -> None:
    model = Small()
    optimizer = SignDescent(model.parameters())
    copies = Copies(model, [optimizer])
    before = [p.clone() for p in copies.model.parameters()]
    copies.model(pair()[0]).sum().backward()
    copies.optimizers[0].step()
    assert not all(torch.equal(p, value) for p, value in zip(copies.model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())


class Shared(Small):
    """Its parameters are found through a class attribute, which no copy replaces."""

    model: Any = None

    def forward(self, x: Tensor) -> Tensor:
        e = Shared.model.tokens(x)
        logits: Tensor = self.head(torch.tanh(self.mix(e + e.cumsum(dim=1) / T)))
        return logits


def test_unfaithful_copy_is_not_judged_and_no_finding() -> None:
    model = Shared()
    Shared.model = model
    report = examine(case(model))
    assert codes(report) == [] and "gradients" in {unchecked.check for unchecked in report.not_judged}
    with pytest.raises(NotJudged):
        target_from_case(case(model)).fresh()
