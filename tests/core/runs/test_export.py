"""Exports of runs: CSV, strict JSON and TensorBoard event files."""

import csv
import json
import math
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.recorded import (
    STARTED,
    evaluated,
    recorded,
    recorded_script,
    script_config,
    script_story,
    story,
    update,
)
from tui_lab.core import events as ev
from tui_lab.core.config.script import Unit
from tui_lab.core.runs import export, tensorboard
from tui_lab.core.runs.catalog import write_notes
from tui_lab.core.runs.run_files import EVENTS, SUMMARY
from tui_lab.util import files
from tui_lab.util.errors import RunError


def test_crc32c_is_that_of_rfc_3720() -> None:
    """Values from appendix B.4, and the usual check value of the polynomial."""
    assert tensorboard.crc32c(b"123456789") == 0xE3069283
    assert tensorboard.crc32c(bytes(32)) == 0x8A9136AA
    assert tensorboard.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert tensorboard.crc32c(bytes(range(32))) == 0x46DD794E


def records(data: bytes) -> list[bytes]:
    """The data of TFRecords, after checking their checksums."""
    contents = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        (check,) = struct.unpack("<I", data[8:12])
        assert check == tensorboard.masked(tensorboard.crc32c(data[:8]))
        contents.append(data[12 : 12 + length])
        (check,) = struct.unpack("<I", data[12 + length : 16 + length])
        assert check == tensorboard.masked(tensorboard.crc32c(contents[-1]))
        data = data[16 + length :]
    return contents


def fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a protobuf message: (number, value), with fixed-size values as bytes."""
    values: list[tuple[int, int | bytes]] = []
    while message:
        key, message = varint(message)
        match key & 7:
            case 0:
                value, message = varint(message)
                values.append((key >> 3, value))
            case 1:
                values.append((key >> 3, message[:8]))
                message = message[8:]
            case 2:
                length, message = varint(message)
                values.append((key >> 3, message[:length]))
                message = message[length:]
            case 5:
                values.append((key >> 3, message[:4]))
                message = message[4:]
            case kind:
                raise AssertionError(kind)
    return values


def varint(data: bytes) -> tuple[int, bytes]:
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, data[place + 1 :]
    raise AssertionError("the varint is cut off")


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**62),
    st.floats(),
    st.dictionaries(st.text(min_size=1, max_size=90), st.floats(), min_size=1, max_size=3),
)
def test_scalars_are_read_back_as_they_were(step: int, time: float, values: dict[str, float]) -> None:
    event = dict(fields(tensorboard.scalars(step, time, values)))
    assert event[2] == step and event[1] == struct.pack("<d", time)
    summary = event[5]
    assert isinstance(summary, bytes)
    read_back: dict[str, float] = {}
    for _, value in fields(summary):
        assert isinstance(value, bytes)
        parts = dict(fields(value))
        tag, number = parts[1], parts[2]
        assert isinstance(tag, bytes) and isinstance(number, bytes)
        read_back[tag.decode()] = struct.unpack("<f", number)[0]
    assert read_back.keys() == values.keys()
    for name, wanted in values.items():
        got = read_back[name]
        if math.isnan(wanted):
            assert math.isnan(got)
        elif abs(wanted) > 3.5e38:
            assert got == math.copysign(math.inf, wanted)
        else:
            assert got == pytest.approx(wanted, rel=1e-6, abs=1e-40)


def test_event_file_has_the_version_the_config_and_every_step(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    export.to_event_file(run, tmp_path / "a.tfevents")
    messages = [dict(fields(record)) for record in records((tmp_path / "a.tfevents").read_bytes())]
    assert messages[0][3] == b"brain.Event:2"
    steps = [event[2] for event in messages[1:]]
    recorded_steps = [event.step for event in story() if isinstance(event, ev.StepDone | ev.Evaluated)]
    assert steps == [0, *recorded_steps]
    times = [struct.unpack("<d", event[1])[0] for event in messages if isinstance(event[1], bytes)]
    assert times == sorted(times) and times[-1] - times[0] == pytest.approx(8 * 0.5)


@pytest.mark.slow
def test_tensorboard_reads_the_event_files(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    runs = {name: recorded(tmp_path / name) for name in ("a", "b")}
    for run in runs.values():
        list(run.record([ev.Changed(step=8, key="optim.lr", old=0.01, new=0.005), update(9, math.inf)]))
    export.to_tensorboard(runs, tmp_path / "logs")
    for name, run in runs.items():
        log = reader.EventAccumulator(str(tmp_path / "logs" / name), size_guidance={"scalars": 0, "tensors": 0})
        log.Reload()
        wanted = [event for event in run.events() if isinstance(event, ev.StepDone)]
        points = log.Scalars("loss/train")
        assert [point.step for point in points] == [event.step for event in wanted]
        assert [point.value for point in points] == pytest.approx([event.loss for event in wanted], rel=1e-6)
        assert [point.step for point in log.Scalars("loss/validation")] == [4, 8]
        assert [point.value for point in log.Scalars("metric/exact_match")] == [0.25, 0.25]
        [config] = log.Tensors("config")
        assert b"lr = 0.01" in config.tensor_proto.string_val[0]
        assert log.SummaryMetadata("config").plugin_data.plugin_name == "text"
        assert b"optim.lr" in log.Tensors("changes")[0].tensor_proto.string_val[0]


def test_csv_has_a_line_for_each_step_and_evaluation(tmp_path: Path) -> None:
    events = [STARTED, update(1), evaluated(1, 1.5), update(2, math.nan)]
    runs = {"a": recorded(tmp_path / "a", events), "b, the second": recorded(tmp_path / "b", events[:2])}
    export.to_csv(runs, tmp_path / "new" / "all.csv")
    with (tmp_path / "new" / "all.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["run"], row["event"], row["step"]) for row in rows] == [
        ("a", "step", "1"), ("a", "evaluated", "1"), ("a", "step", "2"), ("b, the second", "step", "1"),
    ]  # fmt: skip
    assert float(rows[0]["loss"]) == 2.0 and rows[0]["val_loss"] == "" and float(rows[1]["val_loss"]) == 1.5
    assert rows[1]["loss"] == "" and math.isnan(float(rows[2]["loss"]))


def test_measurements_by_layer_are_columns_and_tags(tmp_path: Path) -> None:
    by_layer = {"grad_norm": {"layers.0": 0.5, "layers.1": 0.25}, "dead_units": {"layers.0": 0.0}}
    measured = replace(update(1), by_layer=by_layer)
    run = recorded(tmp_path / "a", [STARTED, measured, update(2)])
    export.to_csv({"a": run}, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as stream:
        first, second = csv.DictReader(stream)
    assert (first["grad_norm/layers.0"], first["grad_norm/layers.1"], first["dead_units/layers.0"]) == (
        "0.5", "0.25", "0.0",
    )  # fmt: skip
    assert second["grad_norm/layers.0"] == "" and "by_layer" not in first
    export.to_tensorboard({"a": run}, tmp_path / "logs")
    [path] = (tmp_path / "logs").rglob("events.*")
    assert b"grad_norm/layers.1" in path.read_bytes()


def test_json_is_strict_and_complete(tmp_path: Path) -> None:
    runs = {"a": recorded(tmp_path / "a", [STARTED, update(1, math.inf)]), "b": recorded(tmp_path / "b", [])}
    write_notes(runs["a"].path, ["keep"], "“good”")
    export.to_json(runs, tmp_path / "all.json")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    first, second = json.loads((tmp_path / "all.json").read_text("utf-8"), parse_constant=refuse)["runs"]
    assert [ev.from_json(event) for event in first["events"]] == [STARTED, update(1, math.inf)]
    assert (first["tags"], first["note"], first["config"]["optim"]["lr"]) == (["keep"], "“good”", 0.01)
    assert second["events"] == [] and second["summary"]["reason"] == "interrupted"


def test_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    (tmp_path / "all.csv").write_text("mine", "utf-8")
    with (run.path / "events.jsonl").open("a", encoding="utf-8") as out:
        out.write("nonsense\n")
    with pytest.raises(RunError) as caught:
        export.to_csv({"a": run}, tmp_path / "all.csv")
    assert caught.value.code == "damaged"
    assert (tmp_path / "all.csv").read_text("utf-8") == "mine"
    assert not list(tmp_path.glob(f"{files.TEMPORARY}*"))
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(RunError) as caught:
        export.to_json({"b": recorded(tmp_path / "b")}, tmp_path / "file" / "all.json")
    assert caught.value.code == "unwritable"


def test_exported_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        export.to_json({"a": recorded(tmp_path / "a")}, tmp_path / "all.json")
    finally:
        os.umask(before)
    assert (tmp_path / "all.json").stat().st_mode & 0o777 == 0o640


def test_csv_of_a_script_has_its_further_measurements_and_what_it_logged(tmp_path: Path) -> None:
    runs = {"script": recorded_script(tmp_path / "a"), "ours": recorded(tmp_path / "b")}
    export.to_csv(runs, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    of_script = [row for row in rows if row["run"] == "script"]
    assert [row["grad_norm"] for row in of_script if row["event"] == "step"] == ["", "1.0"] * 4
    assert {(row["script_lr"], row["lr/1"]) for row in of_script if row["event"] == "step"} == {("0.01", "0.001")}
    logged = [row for row in of_script if row["event"] == "logged"]
    assert [(row["step"], row["logged/accuracy"]) for row in logged] == [("4", "0.5"), ("8", "1.0")]
    assert "\n" in logged[0]["logged/sample"] and logged[0]["loss"] == ""
    assert {row["lr/1"] for row in rows if row["run"] == "ours"} == {""} and "extra" not in rows[0]


def test_json_of_a_script_has_its_config_and_every_event(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a", config=script_config(best_loss=math.inf), ending="failed")
    export.to_json(
        {"a": run, "launched": recorded_script(tmp_path / "b", started=False, ending="running")}, tmp_path / "all.json"
    )
    first, second = json.loads((tmp_path / "all.json").read_text("utf-8"))["runs"]
    assert [ev.from_json(event) for event in first["events"]] == list(script_story(ending="failed"))
    assert (first["config"]["kind"], first["config"]["settings"]["best_loss"]) == ("script", "Infinity")
    assert (second["events"], second["summary"]["n_vocab"], second["config"]["settings"]) == ([], None, {})


@pytest.mark.parametrize("unit", ["tokens", "samples"])
def test_event_file_of_a_script_has_what_it_measured_and_logged(tmp_path: Path, unit: Unit) -> None:
    run = recorded_script(tmp_path / "a", unit=unit, ending="failed")
    export.to_event_file(run, tmp_path / "a.tfevents")
    messages = [dict(fields(record)) for record in records((tmp_path / "a.tfevents").read_bytes())]
    tags = set()
    for message in messages[1:]:
        summary = message[5]
        assert isinstance(summary, bytes)
        tags |= {tag for _, value in fields(summary) if isinstance(value, bytes) for tag in [dict(fields(value))[1]]}
    expected = {
        "config",
        "loss/train",
        "optim/lr/1",
        "optim/script_lr",
        "memory/memory_mib",
        "optim/grad_norm",
        "logged/accuracy",
        "logged/sample",
        "changes",
        "failure",
        f"speed/{unit}_per_s",
    }
    assert expected <= {tag.decode() for tag in tags if isinstance(tag, bytes)}
    assert [message.get(2, 0) for message in messages[1:]] == sorted(message.get(2, 0) for message in messages[1:])


def test_summary_of_a_run_that_was_resumed_and_killed_is_not_that_of_the_session_before(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    assert export.summary_of(run).reason == "done"
    list(run.record([replace(STARTED, step=8, resumed=True), update(9)]))
    written = (run.path / SUMMARY).stat().st_mtime_ns
    os.utime(run.path / EVENTS, ns=(written + 1, written + 1))
    one = export.summary_of(run)
    assert (one.reason, one.steps) == ("interrupted", 9)
