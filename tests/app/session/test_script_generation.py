"""Generation in the process of a script: the test writes the answers that the script would write."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.session.helpers import wait_until
from tui_lab.app.session.generation_thread import GenerationRequest
from tui_lab.app.session.messages import GenerationFinished, GenerationMessage, GenerationStarted, TokenGenerated
from tui_lab.app.session.script_generation import LONGEST_PROMPT, ScriptGeneration
from tui_lab.app.session.script_query import PATIENCE_SECONDS, RunningScript
from tui_lab.app.session.state import Phase
from tui_lab.core import commands as cmd
from tui_lab.core.inference.sampling import Generated
from tui_lab.core.runs.run_files import ANSWERS
from tui_lab.core.watch.answers import answer_files as answers


def token(number: int) -> Generated:
    return Generated(number, chr(97 + number), 0.5, ())


class Asked:
    """A generation with a fake script, phase and clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[cmd.Command] = []
        self.phase: Phase = "running"
        self.now = 0.0
        self.seconds_a_look = 0.0
        self.messages: list[GenerationMessage] = []
        self.generation = ScriptGeneration()
        self.script = RunningScript(self.sent.append, path, lambda: self.phase, self._clock)

    def _clock(self) -> float:
        self.now += self.seconds_a_look
        return self.now

    def start(self, prompt: str = "The ") -> str:
        """Request a reply; return the id of its answer."""
        self.generation.start(GenerationRequest(7, prompt, 20, 0.8, 5, 0.9, 3), self.script)
        command = self.sent[-1]
        assert isinstance(command, cmd.Generate)
        return command.id

    def finish(self) -> str | None:
        """Wait for the end of the reply; return its error."""

        def finished() -> bool:
            self.messages += self.generation.drain()
            return bool(self.messages) and isinstance(self.messages[-1], GenerationFinished)

        wait_until(finished)
        last = self.messages[-1]
        assert isinstance(last, GenerationFinished) and last.number == 7
        return last.error


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path)
    yield asked
    asked.generation.stop()


def test_tokens_come_from_the_answer_which_is_removed(asked: Asked) -> None:
    answer_id = asked.start()
    command = asked.sent[0]
    assert command == cmd.Generate(answer_id, "The ", 20, 0.8, 5, 0.9, 3) and answers.is_valid_id(answer_id)
    answers.write_generation(asked.path, answer_id, 12, [token(0), token(1)])
    assert asked.finish() is None
    assert asked.messages[0] == GenerationStarted(7, cmd.WeightsInfo(12))
    assert asked.messages[1:3] == [TokenGenerated(7, token(0)), TokenGenerated(7, token(1))]
    wait_until(lambda: not list((asked.path / ANSWERS).iterdir()))


def test_error_of_the_script_is_the_error_of_the_reply(asked: Asked) -> None:
    def fail() -> Iterator[Generated]:
        yield token(0)
        raise ValueError("no tokenizer")

    answers.write_generation(asked.path, asked.start(), 12, fail())
    assert "no tokenizer" in (asked.finish() or "")


def test_silence_of_a_running_script_is_an_error(asked: Asked) -> None:
    asked.seconds_a_look = PATIENCE_SECONDS
    asked.start()
    assert asked.finish() is not None


def test_paused_script_may_take_any_time(asked: Asked) -> None:
    asked.phase = "paused"
    asked.seconds_a_look = PATIENCE_SECONDS
    answer_id = asked.start()
    wait_until(lambda: asked.now > 3 * PATIENCE_SECONDS)
    answers.write_generation(asked.path, answer_id, 12, [token(0)])
    assert asked.finish() is None


def test_end_of_the_script_ends_the_reply(asked: Asked) -> None:
    asked.start()
    asked.phase = "ended"
    assert asked.finish() is not None


def test_prompt_that_is_too_long_is_refused(asked: Asked) -> None:
    asked.generation.start(GenerationRequest(7, "x" * (LONGEST_PROMPT + 1), 20, 0.8, 0, 1.0, 0), asked.script)
    assert asked.finish() is not None and asked.sent == []


def test_damaged_answer_is_an_error(asked: Asked) -> None:
    answer_id = asked.start()
    (asked.path / ANSWERS).mkdir()
    (asked.path / ANSWERS / f"{answer_id}.jsonl").write_text("[\n", "utf-8")
    assert asked.finish() is not None
