"""Events, config keys, JSON, exit codes and the Python API are as they were stored.

A test that fails here says that a promise of docs/contracts.md is broken, or that something new is to be stored.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import tui_lab
import tui_lab.plugins
from tests.command_line import RunCli
from tests.contracts.shapes import (
    BEFORE,
    COMMANDS,
    EXIT_CODES,
    NOT_PROMISED,
    RUN,
    SAMPLES,
    SLOW,
    event_fields,
    lacking,
    shape_of_output,
    signatures,
)
from tui_lab.cli.main import app
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.util import contracts, exit_codes
from tui_lab.util.strict_json import dumps


def stored(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text("utf-8"))


def test_every_stored_line_of_an_event_log_reads_and_writes_the_same() -> None:
    for line in (RUN / "events.jsonl").read_text("utf-8").splitlines():
        assert json.loads(dumps(ev.parse_event(line).to_json())) == json.loads(line)


def test_events_have_the_stored_fields() -> None:
    assert event_fields() == stored(f"events-{contracts.EVENTS}.json")


def test_config_has_the_stored_keys() -> None:
    assert [*settings.fields(), "data.options.NAME"] == stored(f"config-{contracts.CONFIG}.json")


@pytest.mark.parametrize(
    ("module", "name"),
    [(tui_lab, f"python-{contracts.PYTHON}.txt"), (tui_lab.plugins, f"plugins-{contracts.PLUGINS}.txt")],
    ids=["tui_lab", "tui_lab.plugins"],
)
def test_names_and_parameters_are_the_stored_ones(module: Any, name: str) -> None:
    assert signatures(module) == (SAMPLES / name).read_text("utf-8").splitlines()


def test_exit_codes_are_the_stored_ones() -> None:
    codes = {name: value for name, value in vars(exit_codes).items() if name.isupper()}
    assert contracts.EXIT_CODES == 1
    of_commands = {"DONE": 0, "NOT_MET": 1, "BAD_USAGE": 2, "FAILED": 3, "NOT_JUDGED": 4}
    assert codes == of_commands | {"INTERRUPTED": 130, "UNREAD": 141}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in COMMANDS]
)
def test_json_has_what_it_had(name: str, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUI_LAB_RUNS")
    for copy in ("one", "two"):
        shutil.copytree(RUN, tmp_path / "runs" / copy)
    (tmp_path / "old.csv").write_text("step,loss,lr\n1,2.5,0.001\n2,2.25,0.001\n", "utf-8")
    if name in BEFORE:
        run_cli(*BEFORE[name])
    done = run_cli(*COMMANDS[name], "--json")
    assert done.code == EXIT_CODES.get(name, exit_codes.DONE), done.err
    assert list(lacking(stored(f"json-{contracts.JSON}.json")[name], shape_of_output(done.out), name)) == []


def test_every_command_with_json_is_stored_or_named_as_not_promised() -> None:
    names = set(_with_json(typer.main.get_command(app)))
    assert names - set(COMMANDS) == {name for name in names if name.startswith(NOT_PROMISED)}
    assert set(stored(f"json-{contracts.JSON}.json")) == set(COMMANDS)


def _with_json(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, part in getattr(command, "commands", {}).items():
        yield from _with_json(part, (*path, name))
    if any("--json" in parameter.opts for parameter in command.params):
        yield " ".join(path)


def test_a_shape_lacks_what_was_removed_or_has_another_type() -> None:
    old = shape_of_output('{"a": 1, "b": [{"c": "x"}], "d": null}')
    assert list(lacking(old, shape_of_output('{"a": 2.5, "b": [], "d": "new", "e": 1}'))) == []
    assert list(lacking(old, shape_of_output('{"b": [{"d": 1}], "d": null}'))) == [".a is missing", ".b[].c is missing"]
    assert list(lacking(old, shape_of_output('{"a": "1", "b": [], "d": 1}'))) == [".a is text, and was number"]
