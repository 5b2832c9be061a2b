"""A process that ends with its parent."""

import signal
import subprocess
import sys

import pytest

CHILD = (
    "import signal, time\n"
    "from tui_lab.core.watch.process.parent_process import end_with_parent\n"
    "end_with_parent(signal.SIGKILL)\n"
    "print('ready', flush=True)\n"
    "time.sleep(20)\n"
    "print('late', flush=True)\n"
)
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {CHILD!r}])\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no process that its parent has ended")
def test_child_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == b""  # It is read to its end, which comes when the child has ended, too.
