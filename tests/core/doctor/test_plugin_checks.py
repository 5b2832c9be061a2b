"""Checks of plug-ins run after the doctor's own, on a copy, and one that is broken is reported as crashed."""

from collections.abc import Callable

import pytest

from tests.core.tiny import tiny
from tests.plugin_packages import Install
from tui_lab.cli import sarif
from tui_lab.core.doctor import runner
from tui_lab.core.doctor.checks.registry import CHECKS
from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.plugin_checks import with_plugins
from tui_lab.core.doctor.program.from_config import target_from_config
from tui_lab.core.doctor.runner import examine as examine_target

CODE = """
    import torch
    from tui_lab.plugins import NotApplicable, NotJudged, finding


    def first_id(program):
        '''Whether every row begins with the same id.'''
        first = program.ids(0)[:, 0]
        assert program.targets(0).shape == program.ids(0).shape
        assert program.logits(0).shape[-1] == program.n_vocab == 5
        before = program.loss(0).item()
        program.update(0)
        assert program.loss(0).item() != before
        yield finding(
            "begins_alike", "Rows begin differently.", evidence=f"{len(set(first.tolist()))} ids",
            why="It may be meant.", fix="Look at a batch.", kind="hint", proposal={"data.shuffle": "off"},
        )
        yield finding("second", "A second one.", evidence="one", why="why", fix="fix")


    def absent(program):
        raise NotApplicable("there is no such thing")


    def unknown(program):
        raise NotJudged("nobody knows")


    def crashing(program):
        yield finding("before", "Before it crashes.", evidence="one", why="why", fix="fix", kind="hint")
        raise ZeroDivisionError("by zero")


    def text(program):
        yield "a text"


    def wrong_key(program):
        yield finding("key", "A key.", evidence="one", why="why", fix="fix", proposal={"optim.rate": 1})
"""


@pytest.fixture
def report_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Report]:
    """A report of the doctor's first five checks, up to `targets`, and those of plug-ins."""
    monkeypatch.setattr(runner, "CHECKS", CHECKS[:5])
    return lambda: examine_target(target_from_config(tiny()))


def test_findings_and_their_rules_in_sarif_are_named_after_the_plugin(install: Install) -> None:
    install("lab-rows", "1.0", CODE, checks="first-id = lab_rows:first_id")
    weights = target_from_config(tiny())
    before = [parameter.clone() for parameter in weights.model.parameters()]
    report = examine_target(weights)
    assert report.crashed == () and report.not_judged == ()
    assert [hint.code for hint in report.hints] == ["first-id/begins_alike"]
    assert [finding.code for finding in report.findings] == ["first-id/second"]
    assert list(report.seconds)[-1] == "first-id"
    assert all((old == new).all() for old, new in zip(before, weights.model.parameters(), strict=True))
    [run] = sarif.document(report, "tiny.toml")["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["first-id/begins_alike", "first-id/second"]


def test_a_check_ends_in_the_same_ways_as_our_own(install: Install, report_of: Callable[[], Report]) -> None:
    install("lab-rows", "1.0", CODE, checks="absent = lab_rows:absent\nunknown = lab_rows:unknown")
    report = report_of()
    assert ("absent", "there is no such thing") in [(one.check, one.reason) for one in report.not_applicable]
    assert ("unknown", "nobody knows") in [(one.check, one.reason) for one in report.not_judged]
    assert report.healthy


def test_a_broken_check_is_crashed_and_names_its_package(install: Install, report_of: Callable[[], Report]) -> None:
    broken = {
        "crashing": "ZeroDivisionError: by zero",
        "text": "yielded a str",
        "wrong_key": "optim.rate",
        "missing": "cannot be imported",
    }
    install("lab-rows", "1.0", CODE, checks="\n".join(f"{name} = lab_rows:{name}" for name in broken))
    report = report_of()
    assert {crashed.check: crashed.error for crashed in report.crashed} == dict.fromkeys(broken, "PluginError")
    for crashed in report.crashed:
        assert broken[crashed.check] in crashed.message and "lab-rows 1.0" in crashed.message
    assert report.passed and not report.healthy


def test_a_name_used_twice_is_crashed_and_names_both_packages(
    install: Install, report_of: Callable[[], Report]
) -> None:
    install("lab-rows", "1.0", CODE, checks="rows = lab_rows:absent\ntargets = lab_rows:absent")
    install("other-rows", "2.0", CODE, checks="rows = other_rows:absent")
    messages = {crashed.check: crashed.message for crashed in report_of().crashed}
    assert "lab-rows 1.0" in messages["rows"] and "other-rows 2.0" in messages["rows"]
    assert "tui-lab itself" in messages["targets"] and "lab-rows 1.0" in messages["targets"]


def test_the_question_is_the_docstring(install: Install) -> None:
    install("lab-rows", "1.0", CODE, checks="first-id = lab_rows:first_id\nmissing = lab_rows:missing")
    questions = {check.name: check.question for check in with_plugins(CHECKS)}
    assert questions["first-id"].startswith("Whether every row begins with the same id.")
    assert "lab-rows 1.0" in questions["first-id"] and "cannot be imported" in questions["missing"]
