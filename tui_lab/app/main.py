"""Run the app as a program: prepare the process before Textual is imported, and save everything at the end."""

import atexit
import os
import sys
from collections.abc import Sequence

from tui_lab.app import shutdown
from tui_lab.util.exit_codes import of_signal
from tui_lab.util.terminal import color_system

ENVIRONMENT = {
    # The math threads wait for each other at every operator: an app that keeps one core busy halves their speed.
    "TEXTUAL_ANIMATIONS": "none",
    # The least time between two paints. At Textual's 60 a letter typed while the app paints waits for 17 ms more; the
    # lab paints ten times a second at most, whatever the limit.
    "TEXTUAL_FPS": "240",
}
SECONDS_TO_SWITCH = 0.0005
"""While a pane is drawn, training asks for the interpreter between operators: it must not wait for 5 ms each time."""


def prepare() -> None:
    """Set Textual's environment, which it reads when it is imported; what the user has set stays."""
    environment = dict(ENVIRONMENT)
    if (colors := color_system(os.environ)) is not None:
        environment["TEXTUAL_COLOR_SYSTEM"] = colors
    for name, value in environment.items():
        os.environ.setdefault(name, value)


def main(
    source: str | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: str | None = None,
    steps: int | None = None,
    lesson: str | None = None,
) -> int:
    """Run the app until the user quits; return the exit code.

    source: what to open, see `pick_of`; resume: a run to train on, up to `steps` if given; lesson: the name or folder
    of a lesson, empty for the list of lessons. However it ends (by a key, an error, a signal or a closed terminal),
    what trains is saved. Raises ConfigError for a source that is neither a preset, a config file nor a run, or a wrong
    keymap, and RunError for a run that cannot be read or resumed.
    """
    prepare()
    from tui_lab.app import keymap
    from tui_lab.app.app import LabApp, pick_of, pick_to_resume
    from tui_lab.app.screens.home import Pick

    sys.setswitchinterval(SECONDS_TO_SWITCH)
    if lesson is not None:
        pick: Pick | None = Pick("lessons", lesson)
    else:
        pick = pick_of(source, overrides) if resume is None else pick_to_resume(resume, steps)
    app = LabApp(pick, keymap=keymap.read(keymap.keymap_path()))
    signals = shutdown.EndingSignals(lambda: list(app.opened), app.exit)
    signals.listen()
    try:
        app.run()
    finally:
        lines = [*app.exit_lines, *shutdown.save_all(app.opened)]
        signals.app_ended()
        shutdown.print_lines(lines)
    code = of_signal(signals.number) if signals.number else app.return_code or 0
    if shutdown.is_training():
        atexit.register(shutdown.end_process, code)
    return code
