"""The commands of examples/github-actions.yml work, and an unmet requirement fails the build."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.cli.documents import ROOT
from tests.process import TINY, Cli

WORKFLOW = ROOT / "examples" / "github-actions.yml"
SHORT_RUN = (*TINY, "--steps", "2")

Step = dict[str, Any]


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    workflow_steps: list[Step] = workflow["jobs"]["reverse"]["steps"]
    return workflow_steps


def command(steps: list[Step], program: str, first_argument: str) -> tuple[list[str], str]:
    """The arguments of the only command that starts with these two words, and the file its output goes to."""
    lines = [line for step in steps for line in step.get("run", "").replace("\\\n", " ").splitlines()]
    [line] = [line for line in lines if line.split()[:2] == [program, first_argument]]
    line, _, target = line.rpartition(" > ") if " > " in line else (line, "", "")
    return shlex.split(line)[1:], target.strip()


def uploaded_folder(steps: list[Step]) -> str:
    [step] = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert step["if"] == "always()", "reports of a failed build are uploaded, too"
    path: str = step["with"]["path"]
    return path


def junit_results(junit: Path) -> dict[str, str]:
    """The name of each test case and its result."""
    cases = ElementTree.parse(junit).getroot().iter("testcase")
    return {case.attrib["name"]: next((e.tag for e in case if e.tag != "system-out"), "passed") for case in cases}


@pytest.mark.slow
def test_doctor_step_passes_and_writes_its_file(steps: list[Step], cli: Cli, tmp_path: Path) -> None:
    arguments, _ = command(steps, "tui-lab", "doctor")
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    [junit] = (tmp_path / uploaded_folder(steps)).glob("*.xml")
    results = junit_results(junit)
    assert len(results) > 10
    assert set(results.values()) <= {"passed", "skipped"}


@pytest.mark.slow
def test_run_step_fails_the_build_when_requirements_are_not_met(steps: list[Step], cli: Cli, tmp_path: Path) -> None:
    arguments, events_file = command(steps, "tui-lab", "run")
    done = cli(*arguments, *SHORT_RUN)
    assert done.returncode == 1, "two steps cannot meet the requirements"
    assert Path(events_file).parts[0] == uploaded_folder(steps)
    (tmp_path / events_file).write_text(done.stdout, "utf-8")
    results = junit_results(tmp_path / arguments[arguments.index("--junit") + 1])
    assert results.pop("training") == "passed"
    required = [value for option, value in zip(arguments, arguments[1:], strict=False) if option == "--require"]
    assert results == dict.fromkeys(required, "failure")
    jq_arguments, _ = command(steps, "jq", "-r")
    assert jq_arguments[-1] == events_file
    if shutil.which("jq"):
        summary = subprocess.run(["jq", *jq_arguments], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"val loss [\d.]+, exact match [\d.e-]+\n", summary)


def test_install_step_is_a_make_target(steps: list[Step]) -> None:
    arguments, _ = command(steps, "make", "install")
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
