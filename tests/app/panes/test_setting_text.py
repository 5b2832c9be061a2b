"""Settings as text: what the user types, and what is allowed."""

import pytest

from tui_lab.app.panes.setting_text import (
    FIELDS,
    allowed,
    choices,
    format_value,
    parameters_text,
    parse_value,
    short_value,
)
from tui_lab.app.panes.settings_list import SETTING_WIDTH
from tui_lab.core.config import settings
from tui_lab.core.kernels.parameter_count import count_parameters


def test_formatted_value_parses_to_itself() -> None:
    config = settings.load("reverse")
    values = {key: settings.get(config, key) for key in FIELDS}
    parsed = {key: parse_value(config, key, format_value(value)) for key, value in values.items()}
    assert {key: settings.get(settings.changed(config, key, value), key) for key, value in parsed.items()} == values


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("optim.betas", "0.8, 0.99", [0.8, 0.99]),
        ("optim.betas", "[0.8, 0.99]", [0.8, 0.99]),
        ("faults", "no_mask, double_softmax", ["no_mask", "double_softmax"]),
        ("faults", "", []),
        ("model.source", " 3.py:Net ", "3.py:Net"),
    ],
)
def test_parse_value_of_lists_and_texts(key: str, text: str, value: object) -> None:
    assert parse_value(settings.load("reverse"), key, text) == value


def test_names_of_our_settings_fit_into_the_list() -> None:
    assert all(len(f"≠ {key.rpartition('.')[2]}") < SETTING_WIDTH for key in FIELDS)


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.900990099009901e-06, "9.901e-06"), (0.1, "0.1"), (123456789012, "123456789012"), (True, "True")],
)
def test_computed_numbers_are_shown_with_a_few_digits(value: object, text: str) -> None:
    assert short_value(value) == text


def limits(key: str) -> str:
    return allowed(key, FIELDS[key])


def test_allowed_names_choices_bounds_and_unit() -> None:
    config = settings.load("reverse")
    assert choices(config, "data.shuffle") == ["epoch", "once", "off"]
    assert limits("data.shuffle") == "epoch | once | off"
    assert choices(config, "optim.betas") == [] and choices(config, "model.d_model") == []
    assert "1 to 65,536" in limits("model.d_model")
    assert limits("data.val_fraction") == "greater than 0, less than 1"


def test_parameters_text_has_the_count_and_a_line_per_kind() -> None:
    config = settings.load("reverse")
    text = parameters_text(config, 10, formula=True).plain
    assert text.startswith(f"{count_parameters(config.model, 10):,} parameters")
    assert all(symbol in text for symbol in ("W_E", "W_Q", "W_1"))
    user_model = settings.changed(config, "model.source", "net.py:Net")
    assert "net.py:Net" in parameters_text(user_model, 10, formula=False).plain
