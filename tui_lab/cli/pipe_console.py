"""A rich console for output that may go into a pipe."""

import errno
import os
from typing import NoReturn

from rich.console import Console


class PipeConsole(Console):
    """Raises BrokenPipeError where the reader of the output has ended; rich would end the process with exit code 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
