"""The app's child process: it measures examples without holding up the training, at the lowest priority.

    python -P -m tui_lab.core.examples.worker RUN REQUEST

REQUEST is an `ExamplesRequest` as JSON. It writes JSON lines to stdout: {"progress": [what, done, total]} while it
measures, then {"report": …} or {"problem": …}.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tui_lab.core.kernels.process_tuning import reduce_gc
from tui_lab.util.child import take_stdout
from tui_lab.util.errors import LabError
from tui_lab.util.strict_json import dumps, loads

LOWEST = 19
SECONDS_BETWEEN_REPORTS = 0.2


def answer(folder: str, request: str, out: TextIO) -> None:
    """Answer the request about the run in `folder`, with lines to `out`."""
    reported_at = 0.0

    def write(**record: Any) -> None:
        out.write(dumps(record) + "\n")
        out.flush()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= SECONDS_BETWEEN_REPORTS:
            reported_at = time.monotonic()
            write(progress=[what, done, total])

    try:
        from tui_lab.core.examples.examine import ExamplesRequest, examine_examples
        from tui_lab.core.runs.folder import Run

        values = loads(request)
        weights = values.pop("weights", None)
        asked = ExamplesRequest(**values, weights=None if weights is None else Path(weights))
        write(report=examine_examples(Run(Path(folder)), asked, progress).to_json())
    except LabError as error:
        write(problem=str(error))
    except Exception as error:  # Of user code, or out of memory.
        write(problem=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    reduce_gc()
    if hasattr(os, "nice"):
        os.nice(LOWEST)
    answer(sys.argv[1], sys.argv[2], take_stdout())
