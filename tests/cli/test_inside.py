"""`tui-lab inside`: its JSON, its text, and its exit codes."""

import json

import pytest

from tests.app.run_folders import trained
from tests.command_line import CliError, RunCli


def test_answers_as_json(run_cli: RunCli) -> None:
    trained("a", "model.n_layers=2")
    report = json.loads(run_cli("inside", "a", "--example", "2", "--json").out)
    assert (report["run"], report["step"], report["part"], report["example"]) == ("a", 3, "val", 2)
    lens = report["lens"]
    assert lens["places"] == ["embedding", "layers.0", "layers.1"]
    assert [len(row) for row in lens["ranks"]] == [len(report["x"])] * 3
    assert lens["losses"][0][0] is None, "its target is ignored"
    assert len(report["ablation"]["others"]["heads"][0]) == 2 and report["ablation"]["n_others"] == 3
    assert len(report["norms"]["stream"]) == 3
    assert set(report["layers"]) == {"grad_norm", "update_ratio", "dead_units"}
    only = json.loads(run_cli("inside", "a", "--view", "norms", "--json").out)
    assert only["norms"] is not None and only["lens"] is None and only["layers"] is None


def test_answers_as_text(run_cli: RunCli) -> None:
    trained("a", "model.n_layers=2")
    ablation = json.loads(run_cli("inside", "a", "--view", "ablation", "--json").out)["ablation"]
    change = ablation["example"]["attention"][1] - ablation["example"]["base"]
    lines = run_cli("inside", "a", "--view", "ablation", "--top", "0").out.splitlines()
    [line] = [line for line in lines if line.startswith("layer 1, attention")]
    assert float(line.split()[3]) == pytest.approx(change, abs=6e-4)
    for view in ("lens", "norms", "layers"):
        result = run_cli("inside", "a", "--view", view)
        assert result.code == 0 and "layer 1" in result.out


def test_lens_shows_the_hardest_positions_and_as_many_layers_as_fit(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    trained("a", "model.n_layers=12")
    report = json.loads(run_cli("inside", "a", "--view", "lens", "--json").out)
    losses = {t: loss for t, loss in enumerate(report["lens"]["losses"][-1]) if loss is not None}
    hardest = sorted(losses, key=lambda t: -losses[t])[:2]
    lines = run_cli("inside", "a", "--view", "lens", "--top", "2").out.splitlines()
    [head] = [number for number, line in enumerate(lines) if line.startswith("t ")]
    assert [int(line.split()[0]) for line in lines[head + 1 : head + 3]] == sorted(hardest)
    assert "embedding" in lines[head] and "layer 11" in lines[head] and len(lines[head].rstrip()) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "key"),
    [
        (("--step", "1"), "not_found", "--step"),
        (("--example", "99999"), "invalid", "--example"),
        (("--text", "12"), "invalid", "--text"),
        (("--text", "123", "--example", "1"), "conflict", "--text"),
    ],
)
def test_errors(cli_error: CliError, arguments: tuple[str, ...], code: str, key: str) -> None:
    trained("a")
    problem = cli_error("inside", "a", *arguments).problems[0]
    assert (problem.code, problem.key) == (code, key)


def test_usage_errors_have_exit_code_2(run_cli: RunCli) -> None:
    assert run_cli("inside", "nothing").code == 2
    assert run_cli("inside", "nothing", "--view", "luck").code == 2
