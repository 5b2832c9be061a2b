"""examples/github-actions.yml does what it says: its commands run, in small; an unmet requirement fails the build."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.process import TINY, Cli

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "github-actions.yml"
FEWER = (*TINY, "--steps", "2")
"""What stands in for the minutes that the runner would train."""


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    workflow = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    found: list[dict[str, Any]] = workflow["jobs"]["reverse"]["steps"]
    return found


def command(steps: list[dict[str, Any]], program: str, first: str) -> tuple[list[str], str | None]:
    """The words after `program` of the one line that begins so, and the file its output goes to."""
    lines = [line for step in steps for line in step.get("run", "").replace("\\\n", " ").splitlines()]
    [line] = [line for line in lines if line.split()[:2] == [program, first]]
    line, _, target = line.rpartition(" > ") if " > " in line else (line, "", "")
    return shlex.split(line)[1:], target.strip() or None


def cases(file: Path) -> dict[str, str]:
    """Each test case's name and what came of it."""
    found = ElementTree.parse(file).getroot().iter("testcase")
    return {case.attrib["name"]: next((e.tag for e in case if e.tag != "system-out"), "passed") for case in found}


def test_the_doctor_s_line_passes_and_writes_its_file(steps: list[dict[str, Any]], cli: Cli, tmp_path: Path) -> None:
    words, _ = command(steps, "tui-lab", "doctor")
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    [file] = (tmp_path / uploaded(steps)).glob("*.xml")
    assert len(cases(file)) > 10 and set(cases(file).values()) <= {"passed", "skipped"}


def test_the_run_s_line_fails_the_build_when_it_has_not_learned(
    steps: list[dict[str, Any]], cli: Cli, tmp_path: Path
) -> None:
    words, target = command(steps, "tui-lab", "run")
    done = cli(*words, *FEWER)
    assert done.returncode == 1, "two steps do not meet the requirements"
    assert target is not None and Path(target).parts[0] == uploaded(steps)
    (tmp_path / target).write_text(done.stdout, "utf-8")
    found = cases(tmp_path / words[words.index("--junit") + 1])
    assert found.pop("training") == "passed"
    required = [words[i + 1] for i, word in enumerate(words) if word == "--require"]
    assert found == dict.fromkeys(required, "failure")
    looked, _ = command(steps, "jq", "-r")
    assert looked[-1] == target
    if shutil.which("jq"):
        said = subprocess.run(["jq", *looked], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"val loss [\d.]+, exact match [\d.e-]+\n", said)


def uploaded(steps: list[dict[str, Any]]) -> str:
    [step] = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert step["if"] == "always()", "also when the build fails"
    path: str = step["with"]["path"]
    return path


def test_what_it_installs_by_is_a_make_target(steps: list[dict[str, Any]]) -> None:
    words, _ = command(steps, "make", "install")
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
