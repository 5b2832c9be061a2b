"""The code with which a script ends is known, unless it catches its own exit."""

import subprocess
import sys

import pytest

BEGIN = """
import atexit, sys
from tui_lab.core.watch.process.exit_code import ExitCode
exit_code = ExitCode()
exit_code.watch()
def end():
    error = exit_code.exception()
    print("end", error if error is None else error.code)
atexit.register(end)
def main(code):
    try: sys.exit(code)
    finally: print("cleanup")
"""


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("main(3)", "end 3"),
        ("exit(4)", "end 4"),
        ("quit()", "end None"),
        ("main('no data')", "end no data"),
        ("try: main(3)\nfinally: print('x')", "end 3"),
        ("import contextlib\nwith contextlib.ExitStack(): main(5)", "end 5"),
        ("try: main(3)\nexcept SystemExit: pass", "end None"),
        (
            "import threading\nthread = threading.Thread(target=main, args=(3,))\nthread.start()\nthread.join()",
            "end None",
        ),
        ("pass", "end None"),
    ],
)
def test_the_exit_code_of_a_script(code: str, last: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, check=False, text=True)
    assert done.stdout.splitlines()[-1] == last
