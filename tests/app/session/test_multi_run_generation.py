"""Replies of several runs to one prompt."""

from tests.app.run_folders import folder, trained
from tui_lab.app.session.messages import ReplyFinished, ReplyMessage, ReplyStarted, ReplyText
from tui_lab.app.session.multi_run_generation import MultiRunGeneration, Prompt
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.runs import folder as runs

GREEDY = Sampling(temperature=0.0)


def replies(generation: MultiRunGeneration) -> dict[str, list[ReplyMessage]]:
    """Wait for the end; return the messages of each run by its name."""
    generation.join()
    messages: dict[str, list[ReplyMessage]] = {}
    for message in generation.drain():
        messages.setdefault(message.run.name, []).append(message)
    return messages


def test_one_prompt_to_several_runs_keeps_their_errors_apart() -> None:
    paths = [trained("a"), trained("b", "train.seed=5"), folder("c", 0.25).path]
    generation = MultiRunGeneration()
    generation.start(Prompt("123", GREEDY), paths)
    messages = replies(generation)
    for name in "ab":
        assert [type(message) for message in messages[name]] == [ReplyStarted, *[ReplyText] * 3, ReplyFinished]
        assert messages[name][-1] == ReplyFinished(runs.find(name).path)
    [failure] = messages["c"]
    assert isinstance(failure, ReplyFinished) and failure.error is not None
    generation.start(Prompt("9", GREEDY), paths[:1])
    last = replies(generation)["a"][-1]
    assert isinstance(last, ReplyFinished) and last.error is not None, "the run's vocabulary has no 9"


def test_new_prompt_ends_the_one_before() -> None:
    path = trained("a")
    generation = MultiRunGeneration()
    generation.start(Prompt("123", GREEDY, 100_000), [path])
    generation.start(Prompt("321", GREEDY, 2), [path])
    types = [type(message) for message in replies(generation)["a"]]
    assert types == [ReplyStarted, ReplyText, ReplyText, ReplyFinished]
