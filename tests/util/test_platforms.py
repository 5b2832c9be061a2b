"""Windows outside WSL is refused with a reason, before a module is imported that Windows does not have."""

import subprocess
import sys

PRETEND = """
import os, runpy, subprocess, sys

for name in ("fcntl", "termios", "pwd", "grp", "resource", "pty", "tty"):
    sys.modules[name] = None
sys.platform = "win32"
sys.argv = ["tui-lab", "--version"]
runpy.run_module("tui_lab", run_name="__main__")
"""


def test_windows_is_refused_and_wsl_named() -> None:
    done = subprocess.run([sys.executable, "-c", PRETEND], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert "WSL" in done.stderr and "Traceback" not in done.stderr
