"""What the palette offers for a typed line."""

import pytest

from tui_lab.app.palette.offers import Offer, Verb, find, of_names, of_number, of_text
from tui_lab.app.palette.setting_offers import AT_ONCE, WAITS, WAITS_FOR_RESTART, SettingOffers
from tui_lab.app.panes.edited_settings import READ_ONLY
from tui_lab.core.config import settings
from tui_lab.core.config.script import RunConfig, ScriptConfig, ScriptModelConfig

Applied = list[tuple[str, str]]


def offers(applied: Applied | None = None, config: RunConfig | None = None, *, can_steer: bool = True) -> SettingOffers:
    shown = config or settings.load("reverse", ["optim.lr=0.002"])
    return SettingOffers(lambda: shown, lambda: can_steer, lambda key, text: (applied or []).append((key, text)))


def test_part_of_a_name_lists_settings_with_value_and_bounds() -> None:
    listed = offers()("opt")
    assert listed[0].line.startswith("set optim.") and all(offer.run is None for offer in listed)
    [lr] = [offer for offer in listed if offer.line == "set optim.lr "]
    assert "0.002" in lr.about and AT_ONCE in lr.about and "0 to 100" in lr.about
    assert [offer.line for offer in offers()("dropout")][0] == "set model.dropout "
    assert offers()("")[0].line == f"set {next(iter(settings.fields()))} "


@pytest.mark.parametrize("argument", ["optim.lr 0.001", "optim.lr=0.001", "lr 0.001", "optim.lr = 0.001"])
def test_value_is_applied_as_typed(argument: str) -> None:
    applied: Applied = []
    entered = SettingOffers(
        lambda: settings.load("reverse", ["optim.lr=0.002"]), lambda: True, lambda *typed: applied.append(typed)
    )
    [offer] = entered(argument)
    assert offer.run is not None and not offer.is_problem and "0.002 → 0.001" in offer.about
    offer.run()
    assert applied == [("optim.lr", "0.001")]


def test_offer_says_when_the_value_takes_effect() -> None:
    assert AT_ONCE in offers()("optim.lr 0.001")[0].about
    assert WAITS in offers(can_steer=False)("optim.lr 0.001")[0].about
    assert WAITS in offers()("model.head_std 0.1")[0].about
    assert (
        WAITS_FOR_RESTART in offers()("model.d_model 32")[0].about and WAITS_FOR_RESTART in offers()("d_model")[0].about
    )


@pytest.mark.parametrize(
    ("argument", "part"),
    [
        ("optim.lr much", "number"),
        ("optim.lr -1", "0"),
        ("optim.lrr 1", "optim.lr"),
        ("nothing", "unknown key"),
    ],
)
def test_wrong_value_or_name_is_shown_and_cannot_be_run(argument: str, part: str) -> None:
    [offer] = offers()(argument)
    assert offer.is_problem and offer.run is None and part in offer.about


def test_names_of_a_setting_are_offered() -> None:
    assert [offer.line for offer in offers()("data.shuffle o")] == ["set data.shuffle once", "set data.shuffle off"]
    assert len(offers()("data.shuffle")) == 3


def test_settings_that_only_the_script_can_change_are_not_offered() -> None:
    script = ScriptConfig(model=ScriptModelConfig(dropout=0.1), settings={"n_layer": 4})
    assert READ_ONLY in offers(config=script)("settings.n_layer 5")[0].about
    assert not offers(config=script)("dropout 0.2")[0].is_problem


def test_line_without_set_is_understood_only_with_a_value() -> None:
    understands = offers().understands
    assert understands("optim.lr 0.001") and understands("lr=0.001")
    assert not understands("optim.lr") and not understands("double lr")


def a_verb(name: str = "go", *, is_title: bool = False, most: int | None = None) -> Verb:
    numbers = of_number(name, lambda number: f"step {number}", lambda number: number, least=1, most=lambda: most)
    return Verb(name, "STEP", "go there", numbers, is_title=is_title)


def test_beginning_of_a_verb_offers_its_completion() -> None:
    found = find([a_verb(), a_verb("seek")], "s")
    assert [offer.line for offer in found.offers] == ["seek "] and not found.is_sure


def test_verb_with_an_argument_comes_first() -> None:
    assert find([a_verb(is_title=True)], "go 5").is_sure
    assert find([a_verb()], "go").is_sure and not find([a_verb(is_title=True)], "go").is_sure


@pytest.mark.parametrize(("argument", "value"), [("5", 5), ("1,000", 1000), ("0", None), ("x", None), ("2000", None)])
def test_number_within_its_bounds(argument: str, value: int | None) -> None:
    [offer] = find([a_verb(most=1500)], f"go {argument}").offers
    assert offer.is_problem == (value is None)
    assert value is None or (offer.run is not None and offer.run() == value)


def test_names_and_texts() -> None:
    names = of_names("theme", lambda: ["nord", "textual-dark", "dark"], "switch", lambda name: name)
    assert [offer.line for offer in names("dark")] == ["theme dark", "theme textual-dark"]
    assert names("zzz")[0].is_problem
    text = of_text("generate", "a prompt", "generate", lambda prompt: prompt)
    assert text("") == [Offer("generate ", "type a prompt")]
    run = text("To be")[0].run
    assert run is not None and run() == "To be"
