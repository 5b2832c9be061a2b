"""`tui-lab doctor RUN` begins with the recorded step that was not finite, also of the run of a script."""

import json
from pathlib import Path

from tests.command_line import CliError, RunCli
from tests.core.recorded import recorded_script, script_story
from tests.core.tiny import of_kind, trainer_and_run
from tests.non_finite import OVERFLOW
from tui_lab.core import events as ev
from tui_lab.util.exit_codes import NOT_MET


def test_first_finding_is_the_recorded_step_of_a_run(run_cli: RunCli, tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", 'faults=["not_finite"]')
    [event] = of_kind(ev.NonFinite, list(run.record(training.events())))
    examined = run_cli("doctor", run.path, "--json")
    report = json.loads(examined.out)
    assert examined.code == NOT_MET
    first = report["findings"][0]
    assert first["code"] == "loss_not_finite" and f"step {event.failed_step}" in first["title"]
    assert event.origin.module in first["evidence"]


def test_run_of_a_script_is_judged_by_its_record(run_cli: RunCli, cli_error: CliError, tmp_path: Path) -> None:
    assert cli_error("doctor", recorded_script(tmp_path / "healthy").path).code == "unavailable"
    run = recorded_script(tmp_path / "overflow")
    list(run.record([*list(script_story())[:-1], ev.NonFinite(step=7, origin=OVERFLOW)]))
    report = json.loads(run_cli("doctor", run.path, "--json").out)
    [finding] = report["findings"]
    assert (
        finding["code"] == "loss_not_finite" and "step 8" in finding["title"] and "layers.1.W_2" in finding["evidence"]
    )
    assert report["not_examined"], "the model: only the script can build it"
