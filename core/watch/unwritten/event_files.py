"""Keep a script that is examined from adding event files of TensorBoard to the logs of the user's experiments."""

import functools
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from tui_lab.core.watch.process.script_process import when_imported

WRITERS = ("tensorboard.summary.writer.event_file_writer", "tensorboardX.event_file_writer")
"""Modules whose EventFileWriter creates a file as soon as it is made; torch's SummaryWriter uses the first."""


def redirect_event_files(folder: str, note: Callable[[Any], None]) -> None:
    """Let the writers of these modules write below `folder`. note: gets the folder that each would write to."""
    numbers = itertools.count()
    for module in WRITERS:
        when_imported(module, functools.partial(_redirect, module, folder, note, numbers))


def _redirect(module: str, folder: str, note: Callable[[Any], None], numbers: "itertools.count[int]") -> None:
    kind: Any = getattr(sys.modules[module], "EventFileWriter", None)
    if kind is None:
        return
    original = kind.__init__

    @functools.wraps(original)
    def begin(writer: Any, logdir: Any, *args: Any, **kwargs: Any) -> None:
        if not str(logdir).startswith(folder):  # SummaryWriter makes a further writer below its own for add_hparams.
            note(logdir)
        new_folder = os.path.join(folder, f"events-{next(numbers)}")
        os.makedirs(new_folder, exist_ok=True)
        original(writer, new_folder, *args, **kwargs)

    kind.__init__ = begin
