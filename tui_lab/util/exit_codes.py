"""The exit codes of every command; docs/guide/training.md lists them for users."""

DONE = 0
NOT_MET = 1
"""A requirement is not met, or the doctor found a fault."""
BAD_USAGE = 2
"""Bad usage, config or data."""
FAILED = 3
"""Training failed."""
NOT_JUDGED = 4
"""The doctor could not judge: a check crashed, and the others found nothing."""
UNREAD = 141
"""The reader of the output has ended: the code of SIGPIPE."""
INTERRUPTED = 130
"""By Ctrl-C, which sends SIGINT. Another signal that ends a command has the code that `of_signal` returns."""


def of_signal(number: int) -> int:
    """Return the exit code that a shell shows for a process that the signal ended: 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number
