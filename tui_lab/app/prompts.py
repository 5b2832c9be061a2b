"""The prompt that a form starts with, by task."""

from tui_lab.core.config.schema import DataConfig

TEXT_PROMPT = "SOCRATES: "
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def first_prompt(data: DataConfig) -> str:
    """Return a row of digits of the right length for task `reverse`, and the start of a dialogue for text."""
    if data.task != "reverse":
        return TEXT_PROMPT
    return "".join(DIGITS[(3 * i + 1) % data.n_digits] for i in range(data.length))
