"""Answers of the task `reverse`: how long they are, and whether one is right."""

from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig


def expected_answer(config: RunConfig | None, prompt: str) -> str | None:
    """Return the right answer to a prompt, None for a task without one."""
    if not isinstance(config, Config) or config.data.task != "reverse":
        return None
    return prompt.replace(" ", "")[::-1]


def new_tokens(config: RunConfig, prompt: str, otherwise: int) -> int:
    """Return how many tokens to generate: the length of the answer, or `otherwise` for a task without one."""
    answer = expected_answer(config, prompt)
    return otherwise if answer is None else max(1, len(answer))


def verdict(config: RunConfig | None, prompt: str, reply: str) -> str:
    """Return whether a reply is the right answer, and the right one if not; nothing for a task without answers.

    If the model was never trained on rows of that length, this is said too.
    """
    answer = expected_answer(config, prompt)
    if answer is None or not isinstance(config, Config):
        return ""
    text = "✓ right" if reply == answer else f"✗ expected {answer}"
    length = config.data.length
    return text if len(answer) == length else f"{text} (trained on rows of {length} digits, not {len(answer)})"
