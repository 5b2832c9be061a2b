"""Run a program in a pseudo-terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Terminal:
    """A program in a pseudo-terminal. Its output is read and timed; keys are sent to it."""

    def __init__(self, command: Sequence[str], size: tuple[int, int], cwd: Path, **environment: str) -> None:
        self.started_at = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
            os.chdir(cwd)
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"} | environment)
            for name in ("COLUMNS", "LINES", "PYTHONDONTWRITEBYTECODE"):  # An installed program has its bytecode.
                os.environ.pop(name, None)
            os.execvp(command[0], list(command))

    def send(self, keys: str) -> None:
        """Type `keys`."""
        os.write(self._fd, keys.encode())

    def read(self, seconds: float) -> bytes:
        """Return the output of the next `seconds`, or until the program ends."""
        output = b""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0 and select.select([self._fd], [], [], left)[0]:
            try:
                chunk = os.read(self._fd, 65536)
            except OSError:
                break
            if not chunk:
                break
            output += chunk
        return output

    def wait_for(self, text: str, seconds: float) -> float:
        """Return the seconds until `text` is painted. Raises TimeoutError."""
        start = time.perf_counter()
        output = b""
        while time.perf_counter() - start < seconds:
            output += self.read(0.002)
            if text.encode() in output:
                return time.perf_counter() - start
        raise TimeoutError(f"{text!r} was not painted within {seconds} s: …{output[-400:]!r}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def settings(self) -> list[Any]:
        """Return the terminal's attributes, as tcgetattr(3) does."""
        return termios.tcgetattr(self._fd)

    def hang_up(self) -> None:
        """Close the terminal while the program runs."""
        os.close(self._fd)
        self._fd = -1

    def end(self) -> int:
        """Wait for the program and return its exit code."""
        _, status = os.waitpid(self.pid, 0)
        if self._fd >= 0:
            os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        for number in (signal.SIGCONT, signal.SIGKILL):
            self.signal(number)
        self.end()
