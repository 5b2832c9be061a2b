"""What the panes put on the clipboard, as text."""

import json
from typing import Any

from tui_lab.app.panes.cells import Example
from tui_lab.app.token_text import token_text
from tui_lab.data.tokenizers import IdTokenizer, decode


def setting_line(key: str, value: Any) -> str:
    """Return a setting as a line of a config file, such as `optim.lr = 0.001`."""
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"


def example_text(title: str, example: Example) -> str:
    """Return an example: its title, its text if the tokens have one, and a line each for inputs and targets."""
    lines = [title]
    if not isinstance(example.tokenizer, IdTokenizer):
        lines.append(f"text {decode(example.tokenizer, example.x)}")
    targets = [str(int(y)) if y < 0 else token_text(example.target_tokenizer, int(y)) for y in example.y]
    lines.append("x " + " ".join(token_text(example.tokenizer, int(x)) for x in example.x))
    lines.append("y " + " ".join(targets))
    return "\n".join(lines)
