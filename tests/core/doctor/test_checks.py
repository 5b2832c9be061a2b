"""Checks on small models: what they find, what they skip, and what their findings contain."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from unittest.mock import ANY

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.tiny import tiny
from tui_lab import Case, examine
from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS
from tui_lab.core.doctor import runner
from tui_lab.core.doctor.checks.data import targets
from tui_lab.core.doctor.checks.loss import initial_loss
from tui_lab.core.doctor.checks.model import causality
from tui_lab.core.doctor.checks.registry import CHECKS, Check
from tui_lab.core.doctor.checks.training import gradient_flow, gradients
from tui_lab.core.doctor.findings import Crashed, Finding, FindingCode, NotJudged, Report, report_from_json
from tui_lab.core.doctor.fixes import fixed
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.program.case_target import target_from_case
from tui_lab.core.doctor.program.from_config import target_from_config
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.runner import examine as examine_target
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import dumps

V, T = 11, 9
SMALL_MODEL = ("model.n_layers=1", "model.d_model=16", "model.d_ff=16", "model.n_heads=2", "model.d_head=8")


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
        mean = e.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1)[:, None]
        logits: Tensor = self.head(torch.tanh(self.mix(e + mean)))
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


def test_healthy_model_has_no_findings_and_is_left_unchanged() -> None:
    model = Small()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    model.train()
    given = case(model)
    report = examine(given)
    assert report.findings == () and model.training
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert not given.optimizer.state  # type: ignore[union-attr]


def test_loss_may_call_view_on_targets_longer_than_the_probe() -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(0, V, (4, 33), generator=torch.Generator().manual_seed(step))
        return tokens[:, :-1], tokens[:, 1:]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.reshape(-1, V), targets.view(-1))

    report = examine(case(batches=batch, loss=loss, validation=batch(1000)[0]))
    assert report.findings == ()
    assert len(CHECKS) - len(report.not_judged) >= 15 and report.crashed == ()


def test_checks_without_information_are_skipped() -> None:
    report = examine(case(batches=pair(), optimizer=None))
    skipped = {skipped.check for skipped in report.not_judged}
    assert {"data order", "optimizer parameters", "optimizer step", "overfit"} <= skipped
    assert "attention" in {skipped.check for skipped in report.not_applicable}
    assert report.crashed == ()


@pytest.mark.parametrize("n_vocab", [2, 10, 50_257])
def test_floor_is_the_loss_of_certain_probabilities(n_vocab: int) -> None:
    certain = F.one_hot(torch.tensor([0]), n_vocab).double()
    assert floor(n_vocab) == pytest.approx(float(F.cross_entropy(certain, torch.tensor([0]))), rel=1e-9)


def test_second_log_softmax_is_healthy() -> None:
    class Logs(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).log_softmax(dim=-1)

    report = examine(case(Logs(), loss=lambda out, y: F.nll_loss(out.log_softmax(-1).flatten(0, 1), y.flatten())))
    assert report.findings == ()


@pytest.mark.parametrize("where", ["model", "loss"])
@pytest.mark.usefixtures("without_trials")
def test_double_softmax_is_found_in_the_model_and_in_the_loss(where: str) -> None:
    class Sure(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=-1)

    def softened(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.softmax(-1).flatten(0, 1), y.flatten())

    given = case(Sure()) if where == "model" else case(loss=softened)
    report = examine(given)
    [finding] = report.findings
    assert finding.code == "double_softmax" and f"{floor(V):.3f}" in "".join(finding.drawing)
    assert finding.reference_loss == floor(V) == report.reference_loss


@pytest.mark.usefixtures("without_trials")
def test_log_likelihood_of_probabilities_is_healthy() -> None:
    class Sure(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=-1)

    report = examine(case(Sure(), loss=lambda out, y: F.nll_loss(out.log().flatten(0, 1), y.flatten())))
    assert "double_softmax" not in codes(report)


def test_causal_leak_has_its_reach_and_a_matrix_of_dependencies() -> None:
    class Open(Small):
        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x)
            logits: Tensor = self.head(torch.tanh(self.mix(e + e.mean(dim=1, keepdim=True))))
            return logits

    [finding] = causality.check(target_from_case(case(Open())))
    assert finding.code == "causal_leak" and f"t + {T - 1}" in finding.evidence
    rows = finding.drawing[1:]
    assert len(rows) == T and "·" not in "".join(rows).replace("t=", "")


@pytest.mark.usefixtures("without_trials")
def test_leak_without_gradient_is_found_by_exchanging_tokens() -> None:
    class Argmax(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x.roll(-1, dims=1)[..., None].float()

    assert codes(examine(case(Argmax()))) == ["causal_leak"]


@pytest.mark.usefixtures("without_trials")
def test_mean_over_the_batch_is_batch_mixing() -> None:
    class Mixed(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits - logits.mean(dim=0, keepdim=True)

    assert "batch_mixing" in codes(examine(case(Mixed())))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda x, y: x.clone(), "copied_targets"),
        (lambda x, y: torch.cat([y[:, 1:], y[:, :1]], dim=1), "shifted_targets"),
        (lambda x, y: y.flip(0), "swapped_rows"),
        (lambda x, y: torch.full_like(y, -100), "ignored_targets"),
    ],
)
@pytest.mark.usefixtures("without_trials")
def test_wrong_targets_are_found(change: object, code: str) -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = pair(step)
        return x, change(x, y)  # type: ignore[operator]

    assert codes(examine(case(batches=batch, rule="next_token")))[:1] == [code]


def test_shifted_targets_are_drawn_with_the_expected_ones() -> None:
    target = target_from_config(settings.load("reverse", ['faults=["shifted_targets"]', "data.length=4"]))
    [finding] = targets.check(target)
    x, y, expected = (line.split()[1:] for line in finding.drawing)
    assert expected == ["–", "–", "–", *x[3::-1]] and y[:6] == expected[1:]


def test_batches_may_be_an_endless_iterable() -> None:
    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        step = 0
        while True:
            yield pair(step)
            step += 1

    assert examine(case(batches=loader())).healthy


IDS = torch.zeros(2, 3, dtype=torch.long)


@pytest.mark.parametrize(
    ("fields", "key", "code"),
    [
        ({"batches": 3}, "Case.batches", "wrong_type"),
        ({"batches": "ab"}, "Case.batches", "wrong_type"),
        ({"batches": []}, "Case.batches", "missing"),
        ({"batches": ["ab"]}, "Case.batches", "wrong_type"),
        ({"batches": (IDS[:0], IDS[:0])}, "Case.batches", "invalid"),
        ({"batches": [(IDS, IDS), (IDS[:0], IDS[:0])]}, "Case.batches", "invalid"),
        ({"loss": lambda logits, y: logits}, "Case.loss", "user_code"),
        ({"loss": lambda logits, y: logits.missing}, "Case.loss", "user_code"),
        ({"forward": 3}, "Case.forward", "wrong_type"),
        ({"rule": "next"}, "Case.rule", "invalid"),
        ({"loss": 3}, "Case.loss", "wrong_type"),
        ({"update": "step"}, "Case.update", "wrong_type"),
        ({"optimizer": torch.optim.Adam}, "Case.optimizer", "wrong_type"),
        ({"optimizer": [3]}, "Case.optimizer", "wrong_type"),
        ({"validation": [[1]]}, "Case.validation", "wrong_type"),
    ],
)
def test_case_with_a_wrong_field_is_a_config_error(fields: dict[str, Any], key: str, code: str) -> None:
    with pytest.raises(ConfigError) as raised:
        examine(case(None, **fields))
    [problem] = raised.value.problems
    assert (problem.key, problem.code) == (key, code)


def test_case_needs_a_model_object() -> None:
    with pytest.raises(ConfigError) as raised:
        examine(Case(Small, pair))  # type: ignore[arg-type]
    assert raised.value.problems[0].key == "Case.model"


@pytest.mark.slow
def test_proposed_learning_rate_fixes_the_config() -> None:
    config = settings.load("reverse", ['faults=["lr_too_low"]', "optim.warmup_steps=0"])
    [finding] = examine_target(target_from_config(config)).findings
    assert finding.code == "lr_too_low" and 1e-4 <= finding.proposal["optim.lr"] <= 1.0
    without_fault = fixed(config, finding)
    assert without_fault is not None and without_fault.faults == () and without_fault.optim.lr == config.optim.lr
    low = settings.changed(settings.changed(config, "faults", ()), "optim.lr", 1e-8)
    [finding] = examine_target(target_from_config(low)).findings
    proposed = fixed(low, finding)
    assert proposed is not None and proposed.optim.lr == finding.proposal["optim.lr"]
    assert examine_target(target_from_config(proposed)).healthy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "vocab"),
    [
        (("double_softmax",), "seen"),
        (("double_softmax", "shuffle_every_step"), "full"),
    ],
)
def test_two_faults_are_found_and_fixed_one_by_one(faults: tuple[str, ...], vocab: str) -> None:
    config = settings.load("overfit-one", [f"faults={list(faults)}", f"data.vocab={vocab}", *SMALL_MODEL])
    found_codes = set()
    for n_left in range(len(faults), 0, -1):
        report = examine_target(target_from_config(config))
        assert len(report.findings) == n_left
        found_codes.add(report.findings[0].code)
        fixed_config = fixed(config, report.findings[0])
        assert fixed_config is not None
        config = fixed_config
    assert found_codes == set(faults) and config.faults == ()
    assert examine_target(target_from_config(config)).healthy


@pytest.mark.usefixtures("without_trials")
def test_vanishing_gradient_is_listed_by_layer() -> None:
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

    findings = {finding.code: finding for finding in examine(case(Deep())).findings}
    assert "vanishes" in findings["gradient_flow"].title and "layers.0" in findings["gradient_flow"].evidence


@pytest.mark.usefixtures("without_trials")
def test_first_module_with_a_non_finite_output_is_in_the_evidence() -> None:
    model = Small()
    with torch.no_grad():
        model.mix.bias[0] = math.nan
    [finding] = examine(case(model)).findings
    assert finding.code == "not_finite" and "mix" in finding.evidence


class Layered(Small):
    """With two layers of one shape, whose gradients compare."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        e = self.tokens(x)
        for layer in self.layers:
            e = e + torch.tanh(layer(e))
        logits: Tensor = self.head(torch.tanh(self.mix(e)))
        return logits


@pytest.mark.parametrize("check", [gradients.check, gradient_flow.check, initial_loss.check])
def test_checks_of_a_loss_that_is_not_finite_have_not_passed(check: Callable[[Target], Iterator[Finding]]) -> None:
    def loss(factor: float) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda logits, y: factor * F.cross_entropy(logits.flatten(0, 1), y.flatten())

    assert not list(check(target_from_case(Case(Layered(), pair, loss(1.0)))))
    model = Layered()
    if check is initial_loss.check:  # It computes the loss from the logits.
        nn.init.constant_(model.head.bias, math.nan)
    with pytest.raises(NotJudged, match="not finite"):
        list(check(target_from_case(Case(model, pair, loss(math.nan)))))


@pytest.mark.parametrize("first_failure", [0, 5])
def test_batch_function_that_raises_is_a_config_error_with_its_line(first_failure: int) -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        if step >= first_failure:
            raise OSError("the file is gone")
        return pair(step)

    with pytest.raises(ConfigError) as raised:
        examine(case(batches=batch))
    [problem] = raised.value.problems
    assert (problem.key, problem.code) == ("Case.batches", "user_code")
    assert "test_checks.py, line" in problem.message and f"step {first_failure}" in problem.message


def test_finding_is_kept_if_its_check_then_crashes_or_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    def ending_with(error: Exception, code: FindingCode) -> Any:
        def run(target: Target) -> Iterator[Finding]:
            yield Finding(code=code, title="title", evidence="evidence", why="why", fix="fix")
            raise error

        return run

    checks = (
        Check("crashes", ending_with(ZeroDivisionError("by zero"), "no_context")),
        Check("skips", ending_with(NotJudged("no corpus"), "output_shape"), ("output_shape",)),
        Check("blocked", ending_with(NotJudged("not reached"), "no_step")),
    )
    monkeypatch.setattr(runner, "CHECKS", checks)
    report = examine(case())
    assert codes(report) == ["no_context", "output_shape"]
    assert report.crashed == (Crashed("crashes", "ZeroDivisionError", "by zero"),)
    assert "test_checks.py" in report.crashed[0].traceback
    assert [(skipped.check, skipped.waits_for) for skipped in report.not_judged] == [
        ("skips", ""),
        ("blocked", "output_shape"),
    ]
    assert report_from_json(json.loads(dumps(report.to_json()))) == replace(report, seconds=ANY)
    assert not report.healthy and not report.to_json()["healthy"]


def test_what_waits_for_a_consequence_names_the_finding_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def yielding(code: FindingCode, *explains: FindingCode) -> Callable[[Target], Iterator[Finding]]:
        def run(target: Target) -> Iterator[Finding]:
            yield Finding(code=code, title="title", evidence="evidence", why="why", fix="fix", explains=explains)

        return run

    checks = (
        Check("determinism", yielding("nondeterministic")),
        Check("comparison", yielding("causal_leak"), compares=True),
        Check("gradients", yielding("missing_gradient", "nondeterministic")),
    )
    monkeypatch.setattr(runner, "CHECKS", checks)
    report = examine(case())
    assert codes(report) == ["missing_gradient"]
    assert [(skipped.check, skipped.waits_for) for skipped in report.not_judged] == [("comparison", "missing_gradient")]


def test_hint_that_an_earlier_check_gave_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def hints(*titles: str) -> Callable[[Target], Iterator[Finding]]:
        def run(target: Target) -> Iterator[Finding]:
            for title in titles:
                yield Finding(code="padding_attended", kind="hint", title=title, evidence="", why="", fix="")

        return run

    checks = (Check("padded rows", hints("first", "second")), Check("padding", hints("third")))
    monkeypatch.setattr(runner, "CHECKS", checks)
    assert [hint.title for hint in examine(case()).hints] == ["first", "second"]


@pytest.mark.usefixtures("without_trials")
def test_report_round_trips_through_json() -> None:
    report = examine_target(target_from_config(tiny('faults=["no_mask", "double_softmax"]')))
    assert report_from_json(json.loads(dumps(report.to_json()))).findings == report.findings


def test_every_fault_names_a_finding() -> None:
    assert {fault.finding for fault in FAULTS.values()} <= set(get_args(FindingCode))
    assert len({check.name for check in CHECKS}) == len(CHECKS)


@pytest.mark.usefixtures("without_trials")
def test_finding_about_the_model_has_the_line_of_its_class() -> None:
    class Unused(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(torch.tanh(self.mix(self.tokens(x))).detach())
            return logits

    finding = examine(case(Unused())).findings[0]
    file, _, line = finding.location.rpartition(":")
    assert "class Unused" in Path(file).read_text("utf-8").splitlines()[int(line) - 1]
