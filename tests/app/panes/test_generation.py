"""The generation pane: replies, their alternatives, repeated prompts, and the fields."""

from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.app.fake import lab, ready, started, update
from tui_lab.app.panes.generation import GenerationPane
from tui_lab.app.panes.sampling_fields import DEFAULTS, parse_fields
from tui_lab.app.session.messages import GenerationFinished, TokenGenerated
from tui_lab.app.session.saved_weights import NO_CHECKPOINT
from tui_lab.core import commands as cmd
from tui_lab.core.inference.sampling import Alternative, Generated, Sampling
from tui_lab.core.training.model_factory import build_model
from tui_lab.util.errors import ConfigError


def token(text: str, p: float = 0.9) -> Generated:
    return Generated(ord(text[0]) % 10, text, p, (Alternative(1, 0.5), Alternative(2, 0.3)))


def reply(pane: GenerationPane, number: int, text: str) -> None:
    """Give the tokens of a whole reply to a request."""
    for character in text:
        pane.receive(TokenGenerated(number, token(character)))
    pane.receive(GenerationFinished(number))


async def test_replies_are_marked_right_or_wrong_and_show_alternatives() -> None:
    async with lab(size=(200, 50)) as it:
        pane = it.screen.query_one(GenerationPane)
        it.screen.query_one("#prompt", Input).value = "123456"
        await it.pilot.press("g")
        reply(pane, 1, "654321")
        await it.tell()
        assert "step 30 123456654321  ✓ right" in it.text("#replies")

        await it.pilot.press("g")
        pane.receive(TokenGenerated(2, token("1", 0.25)))
        pane.receive(GenerationFinished(2))
        await it.press("right")
        assert "✗ expected 654321" in it.text("#replies") and "✓ right" in it.text("#replies"), "earlier replies stay"
        assert "p = 0.250" in it.text("#alternatives") and "2 0.300" in it.text("#alternatives")

        it.screen.query_one("#prompt", Input).value = "1 2 3"
        await it.pilot.press("g")
        reply(pane, 3, "321")
        await it.tell()
        assert "✓ right (trained on rows of 6 digits, not 3)" in " ".join(it.text("#replies").split())


async def test_followed_run_answers_from_its_checkpoint_and_names_the_key_that_saves_the_first() -> None:
    async with lab(size=(200, 50), loaded=False, steps=0) as it:
        pane = it.screen.query_one(GenerationPane)
        it.source.role = "steering"
        opened = ready()
        await it.tell(opened, started(opened), update(1))
        hint = " ".join(it.text("#replies").split())
        assert "from the last checkpoint" in hint and hint.startswith("g: generate")
        await it.pilot.press("g")
        pane.receive(GenerationFinished(1, NO_CHECKPOINT))
        await it.tell()
        assert f"✗ {NO_CHECKPOINT}; c saves one" in " ".join(it.text("#replies").split())
        it.source.role = "watching"
        await it.pilot.press("g")
        pane.receive(GenerationFinished(2, NO_CHECKPOINT))
        assert [reply.error for reply in pane.replies].count(NO_CHECKPOINT) == 1


async def test_prompt_is_repeated_every_n_steps_and_bad_fields_are_shown() -> None:
    async with lab() as it:
        pane = it.screen.query_one(GenerationPane)
        it.screen.query_one("#top_p", Input).value = "0"
        await it.press("g")
        assert "top_p" in it.text("#alternatives") and it.source.sent == [] and pane.replies == []

        it.screen.query_one("#top_p", Input).value = "1"
        it.screen.query_one("#every", Input).value = "5"
        await it.pilot.press("g")
        await it.tell(update(31))
        await it.tell(update(34))
        assert len(pane.replies) == 1
        await it.tell(update(35))
        assert [reply.step for reply in pane.replies] == [30, 35]


def test_fields_are_parsed() -> None:
    fields = parse_fields(DEFAULTS | {"top_k": " 5 ", "seed": ""})
    assert fields.sampling == Sampling(0.8, 5, 1.0, 0)
    assert (fields.max_new_tokens, fields.every) == (80, 0)
    assert parse_fields(DEFAULTS | {"every": " Eval "}).every == "eval"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "-1"),
        ("temperature", "hot"),
        ("top_p", "0"),
        ("tokens", "0"),
        ("every", "-1"),
        ("every", "often"),
        ("seed", "1.5"),
    ],
)
def test_fields_out_of_bounds_are_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_fields(DEFAULTS | {name: text})
    assert name in str(caught.value.problems[0])


async def test_every_sampling_value_is_shown_whole_and_editing_the_prompt_keeps_its_text() -> None:
    async with lab("socrates", size=(200, 50)) as it:
        await it.press("4", "i", "x", "q")
        assert it.screen.query_one("#prompt", Input).value == "SOCRATES: xq"
        await it.press("escape")
        for size in ((200, 50), (120, 40), (80, 24)):
            await it.pilot.resize_terminal(*size)
            await it.tell()
            for name, value in DEFAULTS.items():
                assert it.text(f"#{name}").strip() == ("eval" if name == "every" else value), size
            assert "every eval" in it.painted(), size


async def test_prompt_of_a_text_is_answered_before_the_first_step_and_at_every_evaluation() -> None:
    async with lab("socrates", steps=0) as it:
        assert it.text("#every").strip() == "eval"
        for step in (0, 250, 500):
            [snapshot] = it.source.snapshots
            it.source.snapshots.clear()
            assert snapshot.at_evaluation == (step > 0)
            snapshot.receive({}, cmd.WeightsInfo(step))
            await it.tell(update(step + 7))
            while it.screen.generation_pane.generating:
                await it.pilot.pause()
                await it.tell()
        assert [reply.step for reply in it.screen.generation_pane.replies] == [0, 250, 500]
        it.screen.query_one("#every", Input).value = "0"
        await it.pilot.pause()
        it.source.snapshots[-1].receive({}, cmd.WeightsInfo(750))
        await it.tell(update(751))
        assert len(it.screen.generation_pane.replies) == 3 and len(it.source.snapshots) == 1


async def test_replies_of_a_followed_run_are_shown_again_after_a_second_attach(tmp_path: Path) -> None:
    opened = replace(ready(), path=str(tmp_path))
    config = opened.trainer_config
    assert config is not None
    for attach in (1, 2):
        async with lab(loaded=False, steps=0) as it:
            it.source.role = "steering"
            await it.tell(opened, started(opened), update(1))
            pane = it.screen.generation_pane
            assert [(reply.step, reply.best, reply.done) for reply in pane.replies] == [(250, True, True)] * (
                attach - 1
            )
            await it.press("g")
            if attach == 1:
                assert it.text("#replies").startswith("… "), "the weights may be of an earlier step"
                snapshot = it.source.sent[-1]
                assert isinstance(snapshot, cmd.Snapshot)
                weights = build_model(config, opened.tokenizer.n_vocab).state_dict()
                snapshot.receive(weights, cmd.WeightsInfo(250, best=True))
                while pane.generating:
                    await it.pilot.pause()
                    await it.tell()
                await it.tell()  # The end may have come after the last frame.
                text = it.text("#replies")
            else:
                assert text.strip() in it.text("#replies"), "below the new one"


async def test_followed_run_is_not_promised_replies_of_each_evaluation() -> None:
    async with lab("pseudo-socrates", loaded=False, steps=0) as it:
        it.source.role = "steering"
        opened = ready("pseudo-socrates")
        await it.tell(opened, started(opened))
        every = it.screen.query_one("#every", Input)
        assert every.value == "0"
        every.value = "eval"
        await it.press("g")
        assert "every = 'eval'" in " ".join(it.text("#alternatives").split()) and it.source.sent == []


async def test_prompt_of_another_task_is_answered_when_asked() -> None:
    async with lab("reverse", steps=0) as it:
        [snapshot] = it.source.snapshots
        snapshot.receive({}, cmd.WeightsInfo(0))
        await it.tell(update(1))
        assert it.screen.generation_pane.replies == [] and len(it.source.snapshots) == 1
