"""What each check says, beyond its name: the evidence, the drawing, and when it holds its tongue."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab import Case, examine
from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS
from tui_lab.core.doctor import runner
from tui_lab.core.doctor.case import subject_of
from tui_lab.core.doctor.checks import causality
from tui_lab.core.doctor.checks import targets as alignment
from tui_lab.core.doctor.findings import Crashed, Finding, Report, Skip, report_from_json
from tui_lab.core.doctor.fixes import mended
from tui_lab.core.doctor.from_config import lab_subject
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.runner import CHECKS, Check
from tui_lab.core.doctor.runner import examine as examine_subject
from tui_lab.core.doctor.target import Probe, Subject, probe
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import dumps

V, T = 11, 9


class Small(nn.Module):
    """A healthy causal model: a running mean of embeddings through a layer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.tokens = nn.Embedding(V, 16)
        self.mix = nn.Linear(16, 32)
        self.head = nn.Linear(32, V)
        for p in self.parameters():
            nn.init.normal_(p, 0.0, 0.1, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        e = self.tokens(x)
        seen = e.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1)[:, None]
        logits: Tensor = self.head(torch.tanh(self.mix(e + seen)))
        return logits


def pair(seed: int = 0, rows: int = 4) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(0, V, (rows, T + 1), generator=torch.Generator().manual_seed(seed))
    return tokens[:, :-1], tokens[:, 1:]


def case(model: nn.Module | None = None, **more: object) -> Case:
    model = model or Small()
    values: dict[str, object] = {"batches": pair, "optimizer": torch.optim.Adam(model.parameters(), lr=3e-3)} | more
    return Case(model, **values)  # type: ignore[arg-type]


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def test_a_healthy_strangers_model_is_left_in_peace_and_as_it_was() -> None:
    model = Small()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    model.train()
    given = case(model)
    report = examine(given)
    assert report.findings == () and model.training
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert not given.optimizer.state  # type: ignore[union-attr]


def test_a_loss_may_view_the_targets_of_rows_longer_than_the_probe() -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(0, V, (4, 33), generator=torch.Generator().manual_seed(step))
        return tokens[:, :-1], tokens[:, 1:]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.reshape(-1, V), targets.view(-1))

    report = examine(case(batches=batch, loss=loss, validation=batch(1000)[0]))
    assert report.findings == ()
    assert len(CHECKS) - len(report.skipped) >= 15 and report.crashed == ()


def test_what_cannot_be_known_is_skipped_with_its_reason() -> None:
    report = examine(case(batches=pair(), optimizer=None))
    reasons = {skipped.check: skipped.reason for skipped in report.skipped}
    assert "one batch was given" in reasons["drawing"] and "no optimizer" in reasons["ownership"]
    assert "attention" in reasons["attention"]
    assert report.crashed == ()


@pytest.mark.parametrize("n_vocab", [2, 10, 50_257])
def test_the_floor_is_what_certain_probabilities_leave(n_vocab: int) -> None:
    certain = F.one_hot(torch.tensor([0]), n_vocab).double()
    assert floor(n_vocab) == pytest.approx(float(F.cross_entropy(certain, torch.tensor([0]))), rel=1e-9)


def test_log_softmax_twice_is_harmless() -> None:
    class Logs(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).log_softmax(dim=-1)

    report = examine(case(Logs(), loss=lambda out, y: F.nll_loss(out.log_softmax(-1).flatten(0, 1), y.flatten())))
    assert report.findings == ()


@pytest.mark.parametrize("where", ["model", "loss"])
def test_a_double_softmax_is_named_wherever_it_stands(where: str) -> None:
    class Sure(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=-1)

    def softened(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.softmax(-1).flatten(0, 1), y.flatten())

    given = case(Sure()) if where == "model" else case(loss=softened)
    [finding] = examine(given).findings
    assert finding.code == "double_softmax" and f"{floor(V):.3f}" in "".join(finding.drawing)


def test_probabilities_with_the_likelihood_of_their_logarithm_are_healthy() -> None:
    class Sure(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=-1)

    report = examine(case(Sure(), loss=lambda out, y: F.nll_loss(out.log().flatten(0, 1), y.flatten())))
    assert "double_softmax" not in codes(report)


def test_a_loss_of_ones_own_is_not_judged() -> None:
    def smoothed(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=0.1)

    report = examine(case(loss=smoothed))
    assert report.findings == ()
    assert any(s.check == "loss" and "of your own" in s.reason for s in report.skipped)


def test_the_gradient_is_drawn_as_a_matrix_with_its_upper_part() -> None:
    class Open(Small):
        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x)
            logits: Tensor = self.head(torch.tanh(self.mix(e + e.mean(dim=1, keepdim=True))))
            return logits

    subject = subject_of(case(Open()))
    [finding] = causality.check(subject, probe(subject))
    assert finding.code == "causal_leak" and f"up to {T - 1}" in finding.verdict
    rows = finding.drawing[1:]
    assert len(rows) == T and "·" not in "".join(rows).replace("t=", "")


def test_a_leak_without_gradient_is_found_by_exchange() -> None:
    class Argmax(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x.roll(-1, dims=1)[..., None].float()

    assert codes(examine(case(Argmax()))) == ["causal_leak"]


def test_rows_that_see_each_other_are_found_in_a_batch_norm() -> None:
    class Mixed(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits - logits.mean(dim=0, keepdim=True)

    assert "batch_mixing" in codes(examine(case(Mixed())))


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        (lambda x, y: x.clone(), "copied_targets"),
        (lambda x, y: torch.cat([y[:, 1:], y[:, :1]], dim=1), "shifted_targets"),
        (lambda x, y: y.flip(0), "swapped_rows"),
        (lambda x, y: torch.full_like(y, -100), "ignored_targets"),
    ],
)
def test_targets_that_are_not_what_the_rule_means(targets: object, code: str) -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = pair(step)
        return x, targets(x, y)  # type: ignore[operator]

    assert codes(examine(case(batches=batch, rule="next_token")))[:1] == [code]


def test_a_shift_is_shown_beside_what_is_meant() -> None:
    subject = lab_subject(settings.load("reverse", ['faults=["shifted_targets"]', "data.length=4"]))
    [finding] = alignment.check(subject, None)
    x, y, meant = (line.split()[1:] for line in finding.drawing)
    assert meant == ["–", "–", "–", *x[3::-1]] and y[:6] == meant[1:]


def test_an_iterable_that_never_ends_is_taken_in_part() -> None:
    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        step = 0
        while True:
            yield pair(step)
            step += 1

    assert examine(case(batches=loader())).healthy


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"batches": 3}, "allowed are \\(x, y\\)"),
        ({"batches": (torch.zeros(2, 3), torch.zeros(2, 3))}, "integer ids"),
        ({"batches": (torch.zeros(2, 3).long(), torch.zeros(2, 4).long())}, "equal shapes"),
        ({"rule": "next"}, "Case.rule = 'next'"),
    ],
)
def test_a_case_that_is_none_is_said(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        examine(case(None, **more))


def test_the_rates_that_were_tried_are_proposed_and_mend_the_config() -> None:
    config = settings.load("reverse", ['faults=["lr_too_low"]', "optim.warmup_steps=0"])
    [finding] = examine_subject(lab_subject(config)).findings
    assert finding.code == "lr_too_low" and 1e-4 <= finding.proposal["optim.lr"] <= 1.0
    healed = mended(config, finding)
    assert healed is not None and healed.faults == () and healed.optim.lr == config.optim.lr
    low = settings.changed(settings.changed(config, "faults", ()), "optim.lr", 1e-8)
    [finding] = examine_subject(lab_subject(low)).findings
    healed = mended(low, finding)
    assert healed is not None and healed.optim.lr == finding.proposal["optim.lr"]
    assert examine_subject(lab_subject(healed)).healthy


@pytest.mark.parametrize(
    ("faults", "vocab"),
    [
        (("double_softmax",), "seen"),
        (("shuffle_every_step",), "seen"),
        (("double_softmax", "shuffle_every_step"), "full"),
    ],
)
def test_the_journals_two_bugs_are_named_and_mended_one_by_one(faults: tuple[str, ...], vocab: str) -> None:
    config = settings.load("overfit-one", [f"faults={list(faults)}", f"data.vocab={vocab}"])
    named = set()
    for left in range(len(faults), 0, -1):
        report = examine_subject(lab_subject(config))
        assert len(report.findings) == left
        named.add(report.findings[0].code)
        healed = mended(config, report.findings[0])
        assert healed is not None
        config = healed
    assert named == set(faults) and config.faults == ()
    assert examine_subject(lab_subject(config)).healthy


def test_a_vanishing_gradient_is_said_by_layer() -> None:
    class Deep(Small):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(6))
            for layer in self.layers:
                nn.init.normal_(layer.weight, 0.0, 0.01)  # type: ignore[arg-type]

        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x)
            for layer in self.layers:
                e = torch.sigmoid(layer(e))
            logits: Tensor = self.head(torch.tanh(self.mix(e)))
            return logits

    found = {finding.code: finding for finding in examine(case(Deep())).findings}
    assert "vanishes" in found["gradient_flow"].verdict and "layers.0" in found["gradient_flow"].evidence


def test_the_first_module_that_is_not_finite_is_named() -> None:
    model = Small()
    with torch.no_grad():
        model.mix.bias[0] = math.nan
    [finding] = examine(case(model)).findings
    assert finding.code == "not_finite" and "mix" in finding.evidence


def test_a_batch_function_that_raises_crashes_checks_and_is_not_healthy() -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        raise OSError("the file is gone")

    report = examine(case(batches=batch))
    assert not report.healthy and report.passed == ()
    assert Crashed("ids", "OSError", "the file is gone") in report.crashed
    assert report_from_json(json.loads(dumps(report.to_json()))) == replace(report, seconds=ANY)
    assert not report.to_json()["healthy"]


def test_what_a_check_finds_before_it_crashes_or_skips_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def ending_with(error: Exception, code: str) -> Any:
        def run(subject: Subject, small: Probe) -> Iterator[Finding]:
            yield Finding(code, "verdict", "evidence", "why", "fix")
            raise error

        return run

    checks = (
        Check("crashes", ending_with(ZeroDivisionError("by zero"), "first"), "data"),
        Check("skips", ending_with(Skip("no corpus"), "second"), "data", ("second",)),
        Check("blocked", ending_with(Skip("not reached"), "third"), "data"),
    )
    monkeypatch.setattr(runner, "CHECKS", checks)
    report = examine(case())
    assert codes(report) == ["first", "second"]
    assert report.crashed == (Crashed("crashes", "ZeroDivisionError", "by zero"),)
    assert [skipped.check for skipped in report.skipped] == ["skips", "blocked"]


def test_a_batch_of_the_wrong_shape_is_bad_usage_not_a_crash() -> None:
    with pytest.raises(ConfigError):
        examine(case(batches=lambda step: (torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long))))


def test_a_report_survives_json() -> None:
    report = examine_subject(lab_subject(settings.load("reverse", ['faults=["no_mask", "double_softmax"]'])))
    assert report_from_json(json.loads(dumps(report.to_json()))).findings == report.findings


def test_every_fault_has_its_finding_and_every_finding_words() -> None:
    for fault in FAULTS.values():
        assert fault.mistake.endswith(".") and fault.finding
    assert len({check.name for check in CHECKS}) == len(CHECKS)
