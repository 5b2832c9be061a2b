"""A sentence as characters and as GPT-2's tokens."""

from tui_lab.core.lessons.sentence import LONGEST, split_sentence


def test_sentence_is_split_into_pieces_of_words() -> None:
    split = split_sentence("Socrates asks, and Alcibiades answers.")
    assert split.n_characters == 38
    assert split.pieces == "S·ocrates·␣asks·,·␣and·␣Alc·ibi·ades·␣answers·."
    assert split.tokens[2] == ("␣asks", 7893)
    assert split.n_vocab == 50_257


def test_characters_of_other_alphabets_become_bytes() -> None:
    split = split_sentence("ά")
    assert split.n_characters == split.n_different == 1
    assert [text for text, _ in split.tokens] == ["\\xce", "\\xac"]


def test_empty_and_endless_sentences_are_split_too() -> None:
    assert split_sentence("").tokens == ()
    assert split_sentence("a" * 10 * LONGEST).n_characters == LONGEST
