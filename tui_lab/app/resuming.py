"""Whether a run can be trained on here."""

import shlex
from pathlib import Path

from tui_lab.core.config.schema import Config
from tui_lab.core.runs.catalog import row_of
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import ConfigError

ONLY_THE_SCRIPT = "Only the script can train this run; start the script again."
ALL_STEPS_MADE = (
    "This run has made all its steps. To train on: f in its replay starts a new run from it, "
    "or tui-lab app --resume {} --steps N."
)


def why_not_resumable(path: Path) -> str:
    """Return why the run in `path` cannot be resumed as it is; empty if it can, or if it cannot be read."""
    run = Run(path)
    try:
        if not isinstance(run.config(), Config):
            return ONLY_THE_SCRIPT
    except ConfigError:
        return ""  # The error is shown when the run is opened.
    # Without reading the log, if the summary is up to date.
    return ALL_STEPS_MADE.format(shlex.quote(str(path))) if row_of(path, run.name).state == "done" else ""
