"""The systems that tui-lab runs on. Imports nothing that is missing on another one."""

import sys

NOT_SUPPORTED = """\
tui-lab: Windows is not supported: file locks, signals and the terminal are those of Linux and macOS.
tui-lab: It works in WSL, the Windows Subsystem for Linux: run `wsl --install` once, and install tui-lab in it.
"""


def refuse_unsupported_system() -> None:
    """End the program with exit code 2 on Windows outside WSL, whose Python calls its system linux."""
    if sys.platform in ("win32", "cygwin"):
        sys.stderr.write(NOT_SUPPORTED)
        sys.exit(2)
