"""Text that grows, wrapped line by line."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from tui_lab.app.textual_fixes.wrap_keeps_spaces import wrapped
from tui_lab.app.widgets.streaming_wrap import Flow

TOKENS = st.text(alphabet="abé汉 \n", max_size=8)
WORDS = st.lists(st.tuples(st.text(alphabet="abc", min_size=1, max_size=4), st.sampled_from(" \n")), max_size=40)


@given(st.lists(TOKENS, max_size=30), st.integers(2, 12), st.lists(st.integers(0, 30), max_size=4))
def test_lines_hold_the_whole_text_and_fit_the_width(tokens: list[str], width: int, cuts: list[int]) -> None:
    flow = Flow(width)
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(tokens)], strict=True):
        flow.extend((token, "") for token in tokens[begin:end])
    lines = [line.plain for line in flow.lines(Text("!"))]
    assert "".join(lines) == "".join([*tokens, "!"]).replace("\n", "")
    assert all(cell_len(line.rstrip(" ")) <= width for line in lines)


@given(WORDS, st.integers(4, 20), st.integers(1, 7))
def test_growing_text_is_wrapped_like_the_whole_text(words: list[tuple[str, str]], width: int, size: int) -> None:
    text = "".join(word + separator for word, separator in words)
    flow = Flow(width)
    for at in range(0, len(text), size):
        flow.extend([(text[at : at + size], "")])
    assert [line.plain for line in flow.lines(Text())] == [line.plain for line in wrapped(Text(text), width)]


def test_styles_stay_on_their_tokens() -> None:
    flow = Flow(6)
    flow.extend([("one ", "bold"), ("two", "yellow"), (" three", "")])
    styled = [(line.plain[s.start : s.end], s.style) for line in flow.lines(Text("▌", "dim")) for s in line.spans]
    assert styled == [("one ", "bold"), ("two", "yellow"), ("▌", "dim")]
