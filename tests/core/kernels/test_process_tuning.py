"""Settings of the process."""

import subprocess
import sys

import pytest

from tui_lab.util.child import child_environment

PROGRAM = """
{first_line}

class Node:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("collected")

node = Node()
"""


@pytest.mark.parametrize(
    ("first_line", "output"),
    [
        ("", "collected\n"),
        ("from tui_lab.core.kernels.process_tuning import reduce_gc; reduce_gc()", ""),
    ],
)
def test_no_garbage_is_collected_at_exit(first_line: str, output: str) -> None:
    program = PROGRAM.format(first_line=first_line)
    process = subprocess.run(
        [sys.executable, "-c", program], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert process.stdout == output
