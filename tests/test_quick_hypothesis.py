"""The shortcuts for Hypothesis change none of its text, and are still the ones that it takes."""

from hypothesis.internal import charmap
from hypothesis.internal.conjecture import providers

from tests.quick_hypothesis import FIRST_SURROGATE, LAST_SURROGATE


def is_encoded(code_point: int) -> bool:
    try:
        return chr(code_point).encode().decode() == chr(code_point)
    except UnicodeEncodeError:
        return False


def test_text_has_what_utf_8_can_encode() -> None:
    encoded, changed = charmap.intervals_from_codec("utf-8")
    sample = [*range(FIRST_SURROGATE - 99, LAST_SURROGATE + 99), *range(0, 0x110000, 97), 0x10FFFF]
    assert not changed.intervals
    assert [code_point in encoded for code_point in sample] == [is_encoded(code_point) for code_point in sample]


def test_no_constants_of_modules_are_drawn() -> None:
    provider = providers.HypothesisProvider(None)
    assert not any(provider._local_constants.set_for_type(kind) for kind in ("integer", "float", "bytes", "string"))
