"""Copy to the clipboard through the terminal (OSC 52), which also works over ssh."""

from typing import Any

from textual.app import App

from tui_lab.util.escape import printable

SHOWN = 40
"""Characters of the copied text that the toast shows."""
NOTHING = "There is nothing to copy here."


def copy(app: App[Any], text: str) -> None:
    """Copy a text, and show how it begins; an empty one leaves the clipboard as it is."""
    if not text:
        app.notify(NOTHING, severity="warning")
        return
    app.copy_to_clipboard(text)
    n_lines = text.count("\n") + 1
    first = printable(text.split("\n", 1)[0])
    shown = first[:SHOWN] + ("…" if len(first) > SHOWN else "")
    app.notify(shown, title="Copied" if n_lines == 1 else f"Copied {n_lines:,} lines")
