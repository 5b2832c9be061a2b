"""`tui-lab watch`: a script runs exactly as under Python alone, and its training is recorded."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import runpy
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.command_line import CliError
from tui_lab.cli.commands.watch import _script_and_arguments, _with_end_of_options
from tui_lab.cli.watch import run_headless, startup_settings
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import control
from tui_lab.core.runs.catalog import row_of
from tui_lab.core.runs.folder import Run, list_runs
from tui_lab.core.runs.lock import in_use
from tui_lab.core.runs.run_files import OUTPUT
from tui_lab.core.watch.process import ending
from tui_lab.core.watch.process.script_process import VARIABLE, Target
from tui_lab.core.watch.process.script_process import environment as script_environment

PYTHON = [sys.executable]
WATCH = [sys.executable, "-m", "tui_lab", "watch"]
HEADLESS = [*WATCH, "--headless"]
OWN_LINES = re.compile(rb"^(recording into|recorded \d+ steps?|tui-lab:) .*\n", re.MULTILINE)
Outcome = tuple[int, bytes, bytes]


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """`script(code)` writes train.py in a folder of its own."""

    def write(code: str, name: str = "project/train.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
        return path

    return write


def environment(**variables: str) -> dict[str, str]:
    unset = {"PYTHONPATH", "PYTHONUNBUFFERED", "RANK"}
    return {name: value for name, value in os.environ.items() if name not in unset} | variables


def run(command: list[str], folder: Path, **variables: str) -> Outcome:
    done = subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def assert_same(arguments: list[str], folder: Path, **variables: str) -> Outcome:
    """Run with and without watch; exit code, stdout and stderr are equal, except for the lines of tui-lab."""
    watched = run([*HEADLESS, *arguments], folder, **variables)
    return assert_equal(watched, run([*PYTHON, *arguments], folder, **variables))


def assert_same_process(target: Target, folder: Path, **variables: str) -> Outcome:
    """As `assert_same`, without the command line, which only becomes this process."""
    watched = run(target.command_line, folder, **watched_environment(target, None, **variables))
    return assert_equal(watched, run(target.command_line, folder, **variables))


def watched_environment(target: Target, out: Path | None = None, **variables: str) -> dict[str, str]:
    with mock.patch.dict(os.environ, environment(**variables), clear=True):
        return script_environment(startup_settings(target, out, in_background=False))


def run_process(target: Target, folder: Path, out: Path | None = None) -> Outcome:
    """Run a watched script without the command line."""
    return run(target.command_line, folder, **watched_environment(target, out))


def assert_equal(watched: Outcome, plain: Outcome) -> Outcome:
    code, stdout, stderr = watched
    assert stderr.startswith(b"recording into ")
    assert (code, stdout, OWN_LINES.sub(b"", stderr)) == plain
    return plain


INTROSPECTION = """
import os, sys
print(__name__, __file__, __package__, __spec__ and __spec__.name, __doc__, __builtins__)
print(sys.argv, sys.path, sys.flags, sys.getrecursionlimit())
print(sys.modules["__main__"].__dict__ is globals(), sorted(globals()))
print({name: value for name, value in os.environ.items() if name not in ("_", "COLUMNS", "LINES")})
frame, depth = sys._getframe(), 0
while frame: frame, depth = frame.f_back, depth + 1
print(depth, "torch" in sys.modules, "numpy" in sys.modules)
import signal, gc, threading, warnings
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), gc.get_threshold(), warnings.filters)
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.isatty(), stream.encoding, stream.errors, stream.line_buffering, stream.write_through,
          stream.name, stream.mode, stream.fileno(), type(stream), stream.newlines)
print(sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__)
"""


def test_names_paths_and_streams_are_those_of_python(script: Callable[..., Path]) -> None:
    """With options of Python too: torchrun starts python -u -m tui_lab."""
    folder = script(INTROSPECTION).parent
    module = Target("train", ("--help", "-m", "x"), is_module=True)
    assert_same_process(module, folder, PYTHONPATH=str(folder / "elsewhere"))
    options = ["-u", "-X", "utf8", "-W", "error"]
    arguments = ["project/train.py", "--help", "--out=x", "--batch_size=12", "a", "--", "--b", "--headless"]
    variables = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": ""}
    watched = run([sys.executable, *options, *HEADLESS[1:], *arguments], folder.parent, **variables)
    assert_equal(watched, run([sys.executable, *options, *arguments], folder.parent, **variables))


def test_a_link_to_a_script_finds_the_modules_of_the_real_folder(script: Callable[..., Path], tmp_path: Path) -> None:
    path = script("import sys, helper; print(helper.NAME, __file__, sys.path[0])")
    script("NAME = 'real'", "project/helper.py")
    (tmp_path / "link.py").symlink_to(path)
    assert assert_same_process(Target("link.py"), tmp_path)[1].startswith(b"real")


def test_modules_of_the_script_come_before_those_that_tui_lab_has_imported(script: Callable[..., Path]) -> None:
    names = ("data", "core", "utils", "filelock", "shlex", "tomli_w")
    path = script("".join(f"import {name}\nprint({name}.MINE)\n" for name in names))
    for name in names:
        script(f"MINE = '{name}'", f"project/{name}.py")
    assert assert_same_process(Target("train.py"), path.parent)[0] == 0


ENDINGS = {
    "error": "raise ValueError('x')",
    "chained error": "def f(): 1 / 0\ntry: f()\nexcept ZeroDivisionError as error: raise KeyError('y') from error",
    "error while handling": "try: [][0]\nexcept IndexError: undefined",
    "group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
    "syntax error": "def f(:\n",
    "own hook": "import sys\nsys.excepthook = lambda *parts: print('hook', parts[:2])\nraise ValueError",
    "exit": "import sys; sys.exit()",
    "exit code": "import sys; sys.exit(7)",
    "exit text": "import sys; sys.exit('no data')",
    "large exit code": "import sys; sys.exit(2**40)",
    "exit in a thread": "import sys, threading; threading.Thread(target=sys.exit, args=(3,)).start()",
    "error in a thread": "import threading; threading.Thread(target=lambda: 1 / 0, name='t').start()",
    "exit handlers": "import atexit\nfor i in (2, 1): atexit.register(print, i)\nprint('x', end='')",
    "error in an exit handler": "import atexit\natexit.register(divmod, 1, 0)",
    "immediate exit": "import os; print('x', flush=True); os._exit(5)",
    "interrupt": "raise KeyboardInterrupt",
    "recursion": "n = 0\ndef f():\n    global n\n    n += 1\n    f()\ntry: f()\nexcept RecursionError: print(n)",
    "closed stdout": "import sys; sys.stdout.close(); print('x')",
    "half a line": "print('x', end=''); import sys; sys.stdout.buffer.write(b'\\xff')",
    "mixed streams": "import sys\nfor i in range(3): print(i); print(i, file=sys.stderr)",
    "killed": "import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "streams, a thread, exit handlers and an exit code": """
import atexit, sys, threading
for i in (2, 1): atexit.register(print, i)
for i in range(3): print(i); print(i, file=sys.stderr)
thread = threading.Thread(target=lambda: 1 / 0, name='t')
thread.start()
thread.join()
sys.exit(7)
""",
}


RARE_OR_COMBINED = {
    "chained error", "error while handling", "group", "exit", "exit code", "exit text", "large exit code",
    "exit in a thread", "error in a thread", "exit handlers", "error in an exit handler", "recursion", "half a line",
    "mixed streams", "immediate exit", "interrupt", "closed stdout", "own hook",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in RARE_OR_COMBINED else ()) for name in ENDINGS]
)
def test_a_script_ends_as_under_python(name: str, script: Callable[..., Path]) -> None:
    """Without the command line, which only starts this process."""
    path = script(ENDINGS[name])
    target = Target("train.py", ("x",))
    code, stdout, stderr = run_process(target, path.parent)
    assert (code, stdout, OWN_LINES.sub(b"", stderr)) == run(target.command_line, path.parent)


def test_classes_of_the_script_can_be_pickled_and_sent_to_processes(script: Callable[..., Path]) -> None:
    path = script("""
import multiprocessing, os, pickle, subprocess, sys
class Item:
    def __init__(self, value): self.value = value
def double(item): return Item(2 * item.value)
def show(item): print("child", item.value, flush=True)
if __name__ == "__main__":
    print(pickle.loads(pickle.dumps(Item(3))).value, Item.__module__)
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(method, [item.value for item in pool.map(double, map(Item, range(4)))])
        process = context.Process(target=show, args=(Item(5),))
        process.start()
        process.join()
        print(process.exitcode, flush=True)
    print(subprocess.run([sys.executable, "-c", "import sys; print(sys.path[1:], 'tui_lab' in sys.modules)"],
                         capture_output=True, text=True).stdout)
""")
    assert assert_same_process(Target("train.py"), path.parent)[0] == 0
    assert len(list_runs_in(path.parent)) == 1, "child processes are not recorded"


def list_runs_in(folder: Path) -> list[Run]:
    assert os.environ["TUI_LAB_RUNS"].startswith(str(folder.parent))
    return list_runs()


def test_a_module_of_a_package_imports_its_neighbors(script: Callable[..., Path]) -> None:
    path = script("from .model import NAME\nfrom . import data\nprint(NAME, data.__name__, __package__)", "p/train.py")
    for name in ("__init__", "data", "__main__"):
        script("print(__name__)", f"p/{name}.py")
    script("NAME = 'model'", "p/model.py")
    assert assert_same(["-m", "p.train", "--out", "x"], path.parents[1])[0] == 0
    assert_same_process(Target("p"), path.parents[1])


def test_a_sitecustomize_of_the_user_runs_as_well(script: Callable[..., Path]) -> None:
    path = script("import sys; print(sys.site_name, 'sitecustomize' in sys.modules)")
    script("import sys; sys.site_name = __name__", "site/sitecustomize.py")
    assert assert_same_process(Target("train.py"), path.parent, PYTHONPATH=str(path.parents[1] / "site"))[0] == 0


TRAINING = """
import os, sys
os.environ["OMP_NUM_THREADS"] = "1"
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
os.chdir("/")
for step in range(int(sys.argv[1])):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(torch.ones(2, 4)), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()), flush=True)
"""

# torch's own optimizers import torch._dynamo, which takes as long as importing torch; some slow tests use them.
QUICK_SGD = "from tui_lab.core.training.optim_without_dynamo import SGD\n"
QUICK_TRAINING = TRAINING.replace("torch.manual_seed(0)\n", f"{QUICK_SGD}torch.manual_seed(0)\n").replace(
    "torch.optim.SGD", "SGD"
)


def printed_here(path: Path, *arguments: str) -> str:
    """What a script prints in this process, which has imported torch."""
    with (
        mock.patch.object(sys, "argv", [path.name, *arguments]),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue()


def losses_of(run: Run) -> list[float]:
    return [event.loss for event in run.events() if isinstance(event, ev.StepDone)]


def test_training_is_recorded_with_the_losses_that_the_script_prints(script: Callable[..., Path]) -> None:
    path = script(QUICK_TRAINING + "print(torch.__loader__ is torch.__spec__.loader, type(torch.__loader__))")
    code, stdout, stderr = run_process(Target("train.py", ("4",)), path.parent)
    assert (code, stdout.decode(), OWN_LINES.sub(b"", stderr)) == (0, printed_here(path, "4"), b"")
    [recorded] = list_runs()
    printed = [float(line.split()[1]) for line in stdout.splitlines()[:4]]
    assert losses_of(recorded) == pytest.approx(printed, abs=1e-6)
    summary = recorded.summary()
    assert summary is not None and summary.steps == 4
    assert in_use(recorded.path) is None
    assert stdout in (recorded.path / OUTPUT).read_bytes()


@pytest.mark.slow
def test_an_error_ends_the_run_as_failed(script: Callable[..., Path]) -> None:
    path = script(TRAINING + "raise ValueError('no more data')")
    assert assert_same_process(Target("train.py", ("2",)), path.parent)[0] == 1
    [recorded] = list_runs()
    last = list(recorded.events())[-1]
    assert isinstance(last, ev.Failed) and "no more data" in last.message and "train.py" in last.details
    assert b"no more data" in (recorded.path / OUTPUT).read_bytes()


SLOW_TRAINING = "import time\n" + QUICK_TRAINING.replace(
    "    optimizer.step()", "    optimizer.step(); time.sleep(0.01)"
)


@pytest.fixture
def training(script: Callable[..., Path]) -> Iterator["subprocess.Popen[bytes]"]:
    """A watched script that trains for long; it has written its first step."""
    folder = script(SLOW_TRAINING).parent
    command = [*HEADLESS, "train.py", "100000"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            if losses_of(*list_runs()):
                break
        yield process
        process.kill()


@pytest.mark.slow
def test_a_script_trains_on_where_the_recorder_cannot_begin(script: Callable[..., Path]) -> None:
    """The project has a module in place of a library that the recorder needs."""
    path = script(TRAINING)
    script("", "project/safetensors.py")
    assert assert_same_process(Target("train.py", ("2",)), path.parent)[0] == 0
    [recorded] = list_runs()
    assert [type(event) for event in recorded.events()] == [ev.Warned, ev.Stopped] and in_use(recorded.path) is None
    assert "cannot be recorded" in row_of(recorded.path, "a").message


@pytest.mark.slow
def test_a_killed_script_leaves_a_run_that_can_be_read(training: "subprocess.Popen[bytes]") -> None:
    [recorded] = list_runs()
    training.kill()
    training.communicate()
    assert in_use(recorded.path) is None
    log = (recorded.path / OUTPUT).read_bytes().splitlines()
    for line, loss in zip(log, losses_of(recorded), strict=False):
        assert float(line.split()[1]) == pytest.approx(loss, abs=1e-6)


@pytest.mark.slow
def test_a_stop_from_the_app_ends_the_script_quietly_with_code_130(training: "subprocess.Popen[bytes]") -> None:
    [recorded] = list_runs()
    holder = json.loads((recorded.path / ".holder.json").read_text())
    assert holder["pid"] == training.pid and holder["command"] == "tui-lab watch train.py 100000"
    control.send(recorded.path, cmd.Stop())
    _, stderr = training.communicate()
    assert training.returncode == 130 and OWN_LINES.sub(b"", stderr) == b""
    last = list(recorded.events())[-1]
    assert isinstance(last, ev.Stopped) and last.reason == "stopped"


@pytest.mark.slow
def test_an_interrupt_ends_the_script_as_under_python(training: "subprocess.Popen[bytes]") -> None:
    [recorded] = list_runs()
    training.send_signal(signal.SIGINT)
    _, stderr = training.communicate()
    assert training.returncode == -signal.SIGINT and stderr.count(b"KeyboardInterrupt\n") == 1
    last = list(recorded.events())[-1]
    assert isinstance(last, ev.Stopped) and last.reason == "stopped"


@pytest.mark.slow
def test_a_signal_of_a_cluster_ends_the_run_with_a_checkpoint(training: "subprocess.Popen[bytes]") -> None:
    [recorded] = list_runs()
    training.send_signal(signal.SIGTERM)
    _, stderr = training.communicate()
    assert training.returncode == -signal.SIGTERM and b"\nrecorded " in stderr
    *_, saved, warned, last = recorded.events()
    assert isinstance(last, ev.Stopped) and last.reason == "stopped" and "SIGTERM" in getattr(warned, "message", "")
    assert isinstance(saved, ev.Saved) and saved.step == len(losses_of(recorded))


@pytest.mark.slow
def test_a_script_that_exits_with_a_code_has_failed(script: Callable[..., Path]) -> None:
    path = script(QUICK_TRAINING + "import sys\nsys.exit(3)\n")
    assert run_process(Target("train.py", ("2",)), path.parent)[0] == 3
    [recorded] = list_runs()
    row = row_of(recorded.path, "a")
    assert row.state == "failed" and "exit code 3" in row.message and len(losses_of(recorded)) == 2


def test_a_script_that_does_not_train_gets_a_reason(script: Callable[..., Path]) -> None:
    path = script("import jax\nprint('hello')")
    script("", "project/jax.py")
    exit_code, stdout, stderr = run_process(Target("train.py"), path.parent)
    assert exit_code == 0 and stdout == b"hello\n"
    assert b"tui-lab: nothing was recorded" in stderr and b"other than torch" in stderr
    [recorded] = list_runs()
    one = row_of(recorded.path, "a")
    assert one.state == "no-steps" and "other than torch" in one.message


def test_a_script_that_fails_before_its_first_step_is_said_to_have_failed(script: Callable[..., Path]) -> None:
    path = script("raise OSError('no data')")
    exit_code, _, stderr = run_process(Target("train.py"), path.parent)
    assert exit_code == 1 and b"failed before its first optimizer step" in stderr
    [recorded] = list_runs()
    one = row_of(recorded.path, "a")
    assert (one.state, one.message) == ("failed", "OSError: no data")
    assert [event.kind for event in recorded.events()] == ["failed"]


@pytest.mark.slow
def test_a_launcher_gets_advice(script: Callable[..., Path]) -> None:
    folder = script("print('hello')").parent
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "train.py"]
    code, stdout, stderr = run([*HEADLESS, *launch], folder)
    assert code == 0 and stdout == b"hello\n"
    assert b"torchrun" in stderr


def test_a_closed_stdout_stays_closed(script: Callable[..., Path]) -> None:
    folder = script("import sys; print('x'); print(sys.stdout, file=sys.stderr)").parent
    target = Target("train.py")
    shell = ["sh", "-c", 'exec "$@" >&-', "sh"]
    _, _, stderr = run([*shell, *target.command_line], folder, **watched_environment(target))
    assert OWN_LINES.sub(b"", stderr) == b"None\n"


@pytest.mark.parametrize(("rank", "begin"), [("0", "tui_lab.cli.watch_process"), ("1", "tui_lab.cli.watch_rank")])
def test_the_first_rank_is_recorded_and_the_others_follow(
    rank: str, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    with mock.patch.object(os, "execve") as become:
        run_headless(Target("train.py"), None)
    [(program, command, variables)] = [call.args for call in become.call_args_list]
    assert (program, command) == (sys.executable, Target("train.py").command_line)
    assert json.loads(variables[VARIABLE])["begin"] == begin


def test_a_rank_that_follows_is_the_plain_script(script: Callable[..., Path]) -> None:
    path = script(INTROSPECTION)
    second = ["env", "RANK=1"]
    assert run([*second, *HEADLESS, "train.py"], path.parent) == run([*second, *PYTHON, "train.py"], path.parent)
    assert list_runs() == []


def test_a_script_without_steps_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ending.LAUNCHERS, *ending.OTHER_LIBRARIES):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert "made no step" in ending.why_no_steps(ev.Stopped(step=0, reason="done"), has_optimizer=False)


def test_out_names_the_folder_and_must_be_free(script: Callable[..., Path]) -> None:
    path = script("print('hello')")
    assert run_process(Target("train.py"), path.parent, Path("mine"))[0] == 0
    assert (path.parent / "mine" / "config.toml").is_file()
    code, stdout, stderr = run_process(Target("train.py"), path.parent, Path("mine"))
    assert code == 2 and stdout == b"" and b"already exists" in stderr


def test_many_lines_are_printed_unchanged_and_recorded_in_part(script: Callable[..., Path]) -> None:
    path = script("for i in range(100_000): print('line', i)")
    _, stdout, _ = assert_same_process(Target("train.py"), path.parent)
    [recorded] = list_runs()
    log = (recorded.path / OUTPUT).read_bytes()
    assert log.startswith(b"line 0\n") and b"\nline 99999\n" in log and len(log) < 2**24


def test_a_terminal_stays_a_terminal(script: Callable[..., Path]) -> None:
    path = script(INTROSPECTION + "print('x' * 3, end='\\r', flush=True)\nprint(os.get_terminal_size())")
    plain = run_in_terminal([*PYTHON, "train.py"], path.parent)
    watched = run_in_terminal([*HEADLESS, "train.py"], path.parent)
    assert OWN_LINES.sub(b"", watched) == plain and b"True utf-8" in plain


def run_in_terminal(command: list[str], folder: Path) -> bytes:
    """What `command` writes to a terminal, as an ordinary file would have it."""
    with in_terminal(command, folder) as (_, leader):
        return b"".join(blocks_of(leader)).replace(b"\r\n", b"\n")


@contextlib.contextmanager
def in_terminal(command: list[str], folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run `command` in a terminal of its own; closed at the end. Gives the process and the terminal's other side."""
    leader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(TERM="xterm-256color"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    try:
        yield process, leader
    finally:
        os.close(leader)
        process.wait()


def blocks_of(leader: int) -> Iterator[bytes]:
    """What is written to a terminal, until every process has closed it."""
    try:
        while block := os.read(leader, 2**16):
            yield block
    except OSError:
        return


def test_the_app_follows_a_script_that_outlives_its_terminal(script: Callable[..., Path]) -> None:
    path = script(SLOW_TRAINING.replace(", flush=True", ""))
    with in_terminal([*WATCH, "train.py", "100000"], path.parent) as (process, leader):
        shown = b""
        for block in blocks_of(leader):
            shown += block
            if b"trained by process" in shown:
                break
    [recorded] = list_runs()
    holder = in_use(recorded.path)
    assert holder is not None and holder.pid != process.pid
    try:
        assert os.getsid(holder.pid) == holder.pid, "it has no terminal that can be closed"
        n_steps = len(losses_of(recorded))
        while len(losses_of(recorded)) <= n_steps:
            assert in_use(recorded.path) is not None
        assert len((recorded.path / OUTPUT).read_bytes().splitlines()) >= n_steps, "each line is there at once"
    finally:
        os.kill(holder.pid, signal.SIGKILL)
    assert (recorded.path / OUTPUT).read_bytes().startswith(b"0 ")


@pytest.mark.parametrize("code", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_script_that_ends_before_the_app_opens_is_shown(code: int, script: Callable[..., Path]) -> None:
    path = script(f"print('only this'); raise SystemExit({code})")
    with in_terminal([*WATCH, "train.py"], path.parent) as (process, leader):
        output = b"".join(blocks_of(leader))
    assert process.returncode == code
    assert b"only this" in output and f"exit code {code}".encode() in output and b"\x1b[?1049h" not in output


@pytest.mark.parametrize(
    ("arguments", "code", "suggestion"),
    [
        (["tran.py"], "not_found", "train.py"),
        (["missing/train.py"], "not_found", "train.py"),
        (["package"], "invalid", "package/train.py"),
        (["weights.bin"], "invalid", ""),
        (["notes.ipynb"], "invalid", ""),
        (["-m", "packag.train"], "not_found", "package"),
        (["-m", "package.tran"], "not_found", "package.train"),
        (["-m", "package"], "invalid", "package.train"),
        ([], "missing", ""),
        (["--out", "package", "train.py"], "exists", ""),
        (["train.py"], "unavailable", ""),
    ],
)
def test_bad_input(
    arguments: list[str], code: str, suggestion: str, script: Callable[..., Path], cli_error: CliError
) -> None:
    for name in ("train.py", "package/train.py", "package/__init__.py"):
        script("raise AssertionError('must not run')", name)
    script("\0\1\2", "weights.bin")
    script('{"cells": []}', "notes.ipynb")
    error = cli_error("watch", *(["--headless"] if arguments != ["train.py"] else []), *arguments)
    assert error.code == code and error.problems[0].suggestion == suggestion


@pytest.mark.parametrize(
    ("arguments", "n_own"),
    [
        (["-m", "pkg", "--lr", "1"], 2),
        (["--headless", "-m", "pkg", "--headless"], 3),
        (["-mpkg", "--help"], 1),
        (["--out", "-m", "-m", "pkg", "-m", "x"], 4),
        (["--out=x", "-m", "pkg"], 3),
    ],
)
def test_what_follows_the_module_belongs_to_the_module(arguments: list[str], n_own: int) -> None:
    assert _with_end_of_options(arguments) == [*arguments[:n_own], "--", *arguments[n_own:]]


@pytest.mark.parametrize(
    "arguments", [["train.py", "-m", "x"], ["--headless"], ["--out", "x", "train.py"], ["--", "-m"]]
)
def test_a_script_ends_the_options_itself(arguments: list[str]) -> None:
    assert _with_end_of_options(arguments) == arguments


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train.py", "--", "--lr", "1"], ("train.py", ["--lr", "1"])),
        (["train.py", "--", "--", "x"], ("train.py", ["--", "x"])),
        (["train.py", "a", "--", "b"], ("train.py", ["a", "--", "b"])),
    ],
)
def test_a_separator_right_after_the_script_is_not_passed_on(
    arguments: list[str], expected: tuple[str, list[str]]
) -> None:
    assert _script_and_arguments(arguments, None) == expected
    assert _script_and_arguments(arguments[1:], "pkg.train") == ("pkg.train", expected[1])
