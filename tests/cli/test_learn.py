"""`tui-lab learn`: the list, the checks for teachers, and the hand-in."""

import json
from pathlib import Path

import pytest

from tests.command_line import CliError, RunCli
from tests.core.lessons.example import LESSON, TEXT, write
from tui_lab.cli.learn import glossary_terms, link_problems
from tui_lab.core.lessons.load import list_lessons, load_lesson
from tui_lab.core.lessons.progress import load_progress

REACHED = LESSON.replace("until = { loss_below = 0.05 }", "until = { step = 4 }")


def test_list_shows_progress(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "all" / "1-rates")
    progress = load_progress(load_lesson(write(tmp_path / "all" / "2-rates")))
    progress.go_to("predict")
    progress.of("see").complete = True
    progress.save()
    first, second = json.loads(run_cli("learn", "all", "--list", "--json").out)
    assert (first["lesson"], first["stage"], first["complete"]) == ("1-rates", None, 0)
    assert (second["lesson"], second["stage"], second["complete"]) == ("2-rates", "predict", 1)
    assert "stage 2 of 6" in run_cli("learn", "all", "--list").out


def test_shipped_lessons_link_to_terms_of_the_glossary() -> None:
    assert [problem for lesson in list_lessons() for problem in link_problems(lesson)] == []


def test_check_lists_every_problem(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "rates", LESSON.replace("rows.toml", "row.toml"), TEXT.replace("See it.", ""))
    result = run_cli("learn", "--check", "rates")
    assert result.code == 2
    lines = result.err.splitlines()
    assert any("stage.see.run.config = 'row.toml'" in line and "did you mean 'rows.toml'?" in line for line in lines)
    assert any("tui-lab: rates/text.md: ## see" in line for line in lines)


def test_check_accepts_a_valid_lesson(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "rates")
    assert run_cli("learn", "rates", "--check").code == 0


def test_schema_has_the_keys_as_written_in_toml(run_cli: RunCli) -> None:
    schema = json.loads(run_cli("learn", "--schema").out)
    assert "stage" in schema["properties"] and {"trial", "fact"} <= schema["$defs"]["Stage"]["properties"].keys()


def test_links_to_unknown_terms_are_problems(tmp_path: Path, cli_error: CliError) -> None:
    write(tmp_path / "rates", text=TEXT.replace("glossary:ln V", "glossary:Dropuot"))
    problem = cli_error("learn", "rates", "--check").problems[0]
    assert (problem.code, problem.value, problem.suggestion) == ("unknown_name", "Dropuot", "Dropout")


def test_terms_are_the_names_of_entries() -> None:
    assert {"Adam", "Dropout", "Batch size"} <= set(glossary_terms())


@pytest.mark.parametrize(("lesson", "code"), [pytest.param(REACHED, 0, marks=pytest.mark.slow), (LESSON, 1)])
def test_check_trains_the_runs(tmp_path: Path, run_cli: RunCli, lesson: str, code: int) -> None:
    """In the second lesson four steps do not bring the loss below 0.05."""
    write(tmp_path / "rates", lesson)
    result = run_cli("learn", "rates", "--check", "--train", "--json")
    assert result.code == code
    stages = {stage["stage"]: stage for stage in map(json.loads, result.out.splitlines())}
    assert stages["see"]["facts"][0]["holds"] and len(stages["try"]["facts"][0]["values"]) == 2
    assert not stages["diagnose"]["problems"] and bool(stages["fix"]["problems"]) == bool(code)


@pytest.mark.parametrize(("arguments", "opened"), [([], ""), (["rates"], "rates"), (["."], ".")])
def test_app_opens_at_the_lesson_or_the_list(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, arguments: list[str], opened: str
) -> None:
    """ "." is a folder of lessons."""
    write(tmp_path / "rates")
    lessons = list[str]()

    def main(*, lesson: str) -> int:
        lessons.append(lesson)
        return 0

    monkeypatch.setattr("tui_lab.app.main.main", main)
    monkeypatch.setenv("TEXTUAL_DRIVER", "a browser")
    assert run_cli("learn", *arguments).code == 0 and lessons == [opened]


def test_app_does_not_open_a_lesson_with_problems(
    tmp_path: Path, cli_error: CliError, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "rates", LESSON.replace("rows.toml", "row.toml"))
    monkeypatch.setenv("TEXTUAL_DRIVER", "a browser")
    assert cli_error("learn", "rates").problems[0].suggestion == "rows.toml"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["rates", "--list", "--check"], "conflict"),
        (["rates", "--train"], "conflict"),
        (["rates", "--json"], "conflict"),
        (["rate", "--check"], "unknown_name"),
        (["--export", "out.html"], "missing"),
        (["rates"], "unavailable"),
    ],
)
def test_wrong_usage(tmp_path: Path, cli_error: CliError, arguments: list[str], code: str) -> None:
    write(tmp_path / "rates")
    assert cli_error("learn", *arguments).code == code
