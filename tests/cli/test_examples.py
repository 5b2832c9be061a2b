"""`tui-lab examples`: its JSON, its text, and its exit codes."""

import json

import pytest

from tests.app.run_folders import trained
from tests.command_line import CliError, RunCli


def test_answers_as_json_and_as_text(run_cli: RunCli) -> None:
    trained("a")
    report = json.loads(run_cli("examples", "a", "--json", "--top", "3").out)
    assert report["step"] == 3 and len(report["listed"]) == 3
    losses = [each["example"]["loss"] for each in report["listed"]]
    assert losses == sorted(losses, reverse=True)
    for by in ("loss", "wrong", "duplicates", "classes"):
        result = run_cli("examples", "a", "--by", by, "--part", "val", "--top", "2")
        assert result.code == 0 and result.out
    text = run_cli("examples", "a", "--top", "1").out
    assert f"example {report['listed'][0]['example']['example']}," in text
    shares = json.loads(run_cli("examples", "a", "--by", "classes", "--json").out)["partitions"]
    assert [part["name"] for part in shares] == ["digit position", "digit"]
    sampled = json.loads(run_cli("examples", "a", "--sample", "5", "--seed", "3", "--json").out)["sample"]
    assert (sampled["n"], sampled["seed"]) == (5, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "key"),
    [(("--step", "1"), "not_found", "--step")],
)
def test_errors(cli_error: CliError, arguments: tuple[str, ...], code: str, key: str) -> None:
    trained("a")
    problem = cli_error("examples", "a", *arguments).problems[0]
    assert (problem.code, problem.key, problem.allowed) == (code, key, "3")


def test_usage_errors_have_exit_code_2(run_cli: RunCli) -> None:
    assert run_cli("examples", "nothing").code == 2
    assert run_cli("examples", "nothing", "--by", "luck").code == 2
