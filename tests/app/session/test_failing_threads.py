"""A thread of the app that fails by an error which nobody expects still says so: nothing waits for ever."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.app.session.helpers import wait_until
from tests.core.recorded import STARTED, recorded, update
from tests.core.tiny import tiny, trainer
from tui_lab.app.session import batch_reader, generation_thread
from tui_lab.app.session.batch_reader import BatchReader
from tui_lab.app.session.examples_process import Answered, ExamplesProcess, Question
from tui_lab.app.session.messages import GenerationFinished, SessionFailed, WeightsCopied
from tui_lab.app.session.read_ahead import ReadAhead
from tui_lab.app.session.saved_weights import SavedWeights
from tui_lab.app.session.script_query import RunningScript, ScriptQuery
from tui_lab.core import commands as cmd
from tui_lab.core.runs.event_log import EventLog
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.run_files import BATCH
from tui_lab.core.training import model_factory
from tui_lab.core.watch.answers import answer_files
from tui_lab.util.errors import RunError


def broken(*values: Any, **options: Any) -> NoReturn:
    raise TypeError("broken")


def exits(*values: Any, **options: Any) -> NoReturn:
    raise SystemExit(3)


def first_of(drain: Callable[[], list[Any]], kind: type) -> Any:
    """Return the first message of a kind once it comes."""
    messages: list[Any] = []

    def has_come() -> bool:
        messages.extend(message for message in drain() if isinstance(message, kind))
        return bool(messages)

    wait_until(has_come)
    return messages[0]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return recorded(tmp_path / "run", [STARTED, update(1)])


@pytest.mark.parametrize("error", [broken, exits])
def test_look_at_saved_weights_is_refused(error: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SavedWeights, "_load", error)
    run.checkpoints.joinpath("step-00000001").mkdir(parents=True, exist_ok=True)
    reasons: list[str] = []
    weights = SavedWeights(run)
    for command in (cmd.Inspect(print, refuse=reasons.append), cmd.Snapshot(print, refuse=reasons.append)):
        weights.answer(command)
    assert len(reasons) == 2
    with pytest.raises(RunError):
        weights.answer(cmd.Inspect(print))


def test_batch_has_a_problem(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.path / BATCH).touch()
    monkeypatch.setattr(batch_reader, "read_batch", broken)
    reader = BatchReader(run.path)
    assert reader.poll(0.0, running=False) is None
    reader.join()
    reading = reader.poll(1.0, running=False)
    assert reading is not None and "broken" in reading.problem


def test_replay_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventLog, "read", broken)
    failures: list[SessionFailed] = []
    ahead = ReadAhead(run, 0, failures.append)
    wait_until(lambda: ahead.peek() is None and ahead.ended)
    [failure] = failures
    assert "broken" in failure.message and failure.details


def test_question_about_examples_is_answered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExamplesProcess, "_run", broken)
    process = ExamplesProcess(run.path)
    process.ask(Question("loss", "val", 1), live=False)
    assert "broken" in first_of(process.drain, Answered).problem


def test_question_to_a_script_is_answered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(folder: Path, answer_id: str) -> NoReturn:
        raise OSError("read-only")

    monkeypatch.setattr(answer_files, "remove", remove)
    reasons: list[str | None] = []
    query = ScriptQuery(
        RunningScript(lambda command: None, run.path, lambda: "running"), cmd.Attend, broken, reasons.append
    )
    wait_until(lambda: bool(reasons))
    assert query.has_ended and "broken" in str(reasons)


def test_prompt_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_factory, "build_model", exits)
    generation = generation_thread.GenerationThread(lambda command: None)
    request = generation_thread.GenerationRequest(1, "1", 1, 0.0, 0, 1.0, 0)
    tokenizer = trainer().task.tokenizer
    generation.start(request, tiny(), tokenizer, WeightsCopied(cmd.WeightsInfo(1), {}))
    assert "SystemExit" in first_of(generation.drain, GenerationFinished).error
