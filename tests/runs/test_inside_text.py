"""Names of what is measured inside a model."""

import pytest

from tui_lab.runs.inside_text import layer_titles, own_layer_name


@pytest.mark.parametrize(
    ("names", "titles", "own"),
    [
        (("embedding", "layers.0", "layers.1"), ["embedding", "layer 0", "layer 1"], ""),
        (("embedding", "gpt.h.0", "gpt.h.10"), ["embedding", "layer 0", "layer 10"], "layer 0 is gpt.h.0"),
        (("encoder.0", "decoder.0"), ["encoder.0", "decoder.0"], ""),
        (("first", "second"), ["first", "second"], ""),
        ((), [], ""),
    ],
)
def test_layers_of_one_list_are_called_by_their_numbers(names: tuple[str, ...], titles: list[str], own: str) -> None:
    assert layer_titles(names) == titles
    assert own_layer_name(names) == own
