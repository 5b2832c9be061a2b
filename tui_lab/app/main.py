"""The app as a program: what has to be settled before Textual is imported, and that it ends with everything saved."""

import os
import sys
from collections.abc import Sequence

from tui_lab.app import shutdown
from tui_lab.util.exit_codes import INTERRUPTED

ENVIRONMENT = {
    # The math threads wait for each other at every operator: an app that keeps a core busy halves them.
    "TEXTUAL_ANIMATIONS": "none",
    # How soon after one paint the next may come. At Textual's 60 a letter that comes while an answer is painted waits
    # for 17 ms more; the lab paints ten times a second at most, whatever it may.
    "TEXTUAL_FPS": "240",
}
SECONDS_TO_SWITCH = 0.0005
"""While a pane is painted, training asks for the interpreter between any two operators: it need not wait 5 ms each."""


def settle() -> None:
    """Before Textual is imported, which looks at its environment then and never again; what a person has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def main(source: str | None, overrides: Sequence[str] = ()) -> int:
    """Run the app until the person leaves it; the exit code. Raises ConfigError for a source that is nothing.

    However it ends, what trains is saved: by the keys, by an error in it, by a signal, or with its terminal.
    """
    settle()
    from tui_lab.app.app import LabApp, pick_of

    sys.setswitchinterval(SECONDS_TO_SWITCH)
    app = LabApp(pick_of(source, overrides))
    interruption = shutdown.Interruption(lambda: list(app.opened), app.exit)
    interruption.listen()
    try:
        app.run()
    finally:
        lines = shutdown.save_all(app.opened)
        interruption.over()
        shutdown.say(lines)
    return INTERRUPTED if interruption.received else app.return_code or 0
