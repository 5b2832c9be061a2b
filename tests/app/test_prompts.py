"""The first prompt of a script's run can be encoded by its tokenizer."""

from tui_lab.app.prompts import script_prompt
from tui_lab.core.watch.tokenizer.find_tokenizer import from_object


def test_prompt_of_a_vocabulary_of_words_is_one_of_its_words() -> None:
    tokenizer = from_object({0: "ROMEO:", 1: "<eos>", 2: "speak"})
    assert tokenizer is not None
    prompt = script_prompt(tokenizer.tokenizer())
    assert tokenizer.encode(prompt) == [0]
