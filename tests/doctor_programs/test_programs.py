"""programs.toml and the scripts agree; each script runs with its mistake and without."""

import ast
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.doctor_programs.programs import Program, programs, scripts

PROGRAMS = programs()
FLAGS = {"faulty": [], "fixed": ["--fixed"]}
each_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


def test_each_table_has_a_script_and_each_script_a_table() -> None:
    assert sorted(program.file for program in PROGRAMS) == list(scripts())


def test_causes_are_unique() -> None:
    assert [cause for cause, n in Counter(program.cause for program in PROGRAMS).items() if n > 1] == []


def test_fields_are_filled() -> None:
    for program in PROGRAMS:
        assert program.author in {"fresh", "informed"}, program
        assert all(text.strip() == text != "" for text in (program.style, program.source, program.cause, program.fix))
        assert any(character.isdigit() for character in program.source), program
        assert all(isinstance(code, str) for code in program.codes), program


def test_script_takes_fixed_and_imports_only_what_it_says() -> None:
    for program in PROGRAMS:
        source = program.file.read_text(encoding="utf-8")
        assert "--fixed" in source, program
        allowed = {"torch", "numpy", program.needs} | sys.stdlib_module_names
        assert _imported_packages(source) - allowed == set(), program


@pytest.mark.slow
@pytest.mark.parametrize("variant", FLAGS)
@each_program
def test_script_runs(program: Program, variant: str, tmp_path: Path) -> None:
    if program.needs and find_spec(program.needs) is None:
        pytest.skip(f"needs {program.needs}")
    run = subprocess.run(
        [sys.executable, str(program.file), *FLAGS[variant]],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() != ""


def _imported_packages(source: str) -> set[str]:
    """Return the first part of the name of each module that `source` imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}
