"""JUnit files of runs and of the doctor's reports."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.recorded import summary
from tests.process import TINY, Cli
from tui_lab.cli.junit import TestCase, report_cases, run_cases, write, xml
from tui_lab.cli.result_file import prepare
from tui_lab.core.doctor.findings import Crashed, Finding, Report, Unchecked
from tui_lab.core.runs.summary import parse_requirement
from tui_lab.util.errors import ConfigError

SUMMARY = summary(train_seconds=2.5, steps=7, val_loss=1.25, exact_match=0.5)


def element(text: str, name: str) -> ElementTree.Element:
    [found] = [case for case in ElementTree.fromstring(text).iter("testcase") if case.attrib["name"] == name]
    return found


def test_requirement_is_a_case_whose_failure_has_the_value() -> None:
    wanted = [parse_requirement(text) for text in ("val_loss<=1.0", "exact_match>=0.5", "perplexity<9")]
    text = xml("run <&\"'>", run_cases(wanted, SUMMARY, None))
    root = ElementTree.fromstring(text)
    assert root.attrib | {"time": ""} == {
        "name": "tui-lab",
        "tests": "4",
        "failures": "2",
        "errors": "0",
        "skipped": "0",
        "time": "",
    }
    assert root[0].attrib["name"] == "run <&\"'>"
    failure = element(text, "val_loss<=1").find("failure")
    assert failure is not None and failure.attrib["message"] == "val_loss ≤ 1: 1.25"
    assert element(text, "exact_match>=0.5").find("failure") is None
    assert element(text, "perplexity<9").find("failure") is not None, "a metric that the run does not have"


def test_failed_training_is_an_error() -> None:
    text = xml("run", run_cases([], summary(reason="failed"), "the loss of step 3 is not finite"))
    error = element(text, "training").find("error")
    assert error is not None and "step 3" in error.attrib["message"]


def test_report_of_the_doctor_becomes_cases() -> None:
    finding = Finding(
        code="causal_leak", title="A title.", evidence="evidence", why="why", fix="fix", drawing=("x\x1b[31m", "y")
    )
    crashed = Crashed("sight", "ValueError", "no view")
    report = Report(
        findings=(finding,),
        not_judged=(Unchecked("ids", "no corpus"),),
        passed=("loss",),
        seconds={"loss": 0.25},
        crashed=(crashed,),
    )
    text = xml("doctor", report_cases(report))
    error = element(text, "sight").find("error")
    assert error is not None and error.attrib["message"] == "ValueError: no view"
    failure = element(text, "causal_leak").find("failure")
    assert failure is not None and failure.text == "evidence\nwhy\nfix\nx\\x1b[31m\ny"
    skipped = element(text, "ids").find("skipped")
    assert skipped is not None and skipped.attrib["message"] == "no corpus"
    assert element(text, "loss").attrib["time"] == "0.250"


@given(st.text(), st.text(), st.text(), st.sampled_from(["passed", "failure", "error", "skipped"]))
def test_any_text_gives_valid_xml(suite: str, name: str, message: str, outcome: Any) -> None:
    root = ElementTree.fromstring(xml(suite, [TestCase(name, outcome, message, message)]).encode("utf-8"))
    assert len(list(root.iter("testcase"))) == 1


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff")))
def test_text_that_xml_allows_round_trips(text: str) -> None:
    case = next(ElementTree.fromstring(xml("s", [TestCase("n", "failure", text)])).iter("failure"))
    assert case.attrib["message"] == text


def test_unwritable_file_is_an_error_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "x.xml"):
        with pytest.raises(ConfigError) as raised:
            prepare(path, "--junit")
        assert raised.value.problems[0].key == "--junit"
    prepare(tmp_path / "a" / "b.xml", "--junit")
    write(tmp_path / "a" / "b.xml", "s", [])
    assert ElementTree.parse(tmp_path / "a" / "b.xml").getroot().attrib["tests"] == "0"


@pytest.mark.slow
def test_failed_run_writes_its_file(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "reverse", *TINY, "--set", 'faults=["not_finite"]', "--steps", "2", "--junit", "a.xml", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout.splitlines()[-1])["reason"] == "failed"
    assert "not finite" in (tmp_path / "a.xml").read_text("utf-8")
