"""Two processes: one runs a script under `tui-lab watch`, the other follows and steers it in the app."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app.test_end_to_end import PATIENCE, Person
from tests.app.test_following import changes
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run, list_runs
from tui_lab.core.runs.lock import in_use
from tui_lab.core.runs.run_files import CONTROL
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.exit_codes import INTERRUPTED

LR = 0.125
SCRIPT = f"""
import pathlib, time
import torch
from torch.nn import functional as F

folder = pathlib.Path(__file__).parent
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr={LR})
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
print("training begins", flush=True)
try:
    while True:
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
        optimizer.step()
        scheduler.step()
        time.sleep(0.01)  # As a larger model would take.
finally:
    (folder / "cleanup").write_text("done")
"""
"""Step n has the learning rate LR / n. It trains until it is stopped."""


@dataclass
class Watched:
    """A script under `tui-lab watch --headless`, and the folder of its run."""

    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def events(self) -> list[ev.Event]:
        return list(Run(self.folder).events())

    @property
    def steps(self) -> list[ev.StepDone]:
        return [event for event in self.events if isinstance(event, ev.StepDone)]

    def wait_for_next_step(self) -> None:
        """Wait until the script has made one more step."""
        n_steps = len(self.steps)
        while len(self.steps) <= n_steps:
            assert self.process.poll() is None, "the script has ended"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT, "utf-8")
    return path


@pytest.fixture
def watched(script: Path) -> Iterator[Watched]:
    """The script trains for as long as the test needs it."""
    folder = script.parent / "runs" / "watched"
    command = python_module("tui_lab", "watch", "--headless", "--out", str(folder), script.name)
    with subprocess.Popen(command, cwd=script.parent, env=child_environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"training begins\n"
        yield Watched(folder, process)
        process.kill()


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Callable[..., Person]]:
    """`person("app", RUN)` starts the program in a terminal; what still runs at the end of the test is killed."""
    persons: list[Person] = []

    def start(*arguments: str) -> Person:
        persons.append(Person(tmp_path, *arguments))
        return persons[-1]

    yield start
    for started in persons:
        if not started.has_ended:
            started.kill()


def stop(person: Person) -> None:
    """Stop the script through the dialog of the Quit key."""
    person.press("q")
    person.wait_for("Stop the script")
    person.press("\x1b[B\r")


@pytest.mark.slow
def test_a_script_is_paused_steered_left_followed_again_and_stopped(
    watched: Watched, script: Path, person: Callable[..., Person]
) -> None:
    first = person("app", str(watched.folder))
    first.wait_for("▶ running")
    first.press(" ")
    first.wait_for("paused")
    first.press("LLL")
    first.wait_for("→ 8.0 at ")
    first.press(" ")
    first.wait_for("▶ running")
    first.kill()
    watched.wait_for_next_step()

    second = person("app", str(watched.folder))
    second.wait_for("→ 8.0 at ")
    second.wait_for("▶ running")
    second.press("uuu")
    second.wait_for("→ 1.0 at ")
    watched.wait_for_next_step()
    stop(second)
    assert second.leave() == 0
    assert watched.process.wait(PATIENCE) == INTERRUPTED
    assert (script.parent / "cleanup").read_text() == "done", "the script's own finally block has run"

    assert changes(watched.folder) == [(1, 2), (2, 4), (4, 8), (8, 4), (4, 2), (2, 1)]
    assert_factors_of_the_rates(watched.events)
    stopped = watched.events[-1]
    assert isinstance(stopped, ev.Stopped) and stopped.reason == "stopped"


def assert_factors_of_the_rates(events: list[ev.Event]) -> None:
    """Every step had the rate of the script times the factor in force."""
    factor = 1.0
    factors = set()
    for event in events:
        if isinstance(event, ev.Changed):
            factor = event.new
        elif isinstance(event, ev.StepDone):
            assert event.lr == pytest.approx(factor * LR / event.step)
            factors.add(factor)
    assert {1.0, 8.0} <= factors


@pytest.mark.slow
def test_the_app_shows_that_a_script_was_killed(watched: Watched, person: Callable[..., Person]) -> None:
    follower = person("app", str(watched.folder))
    follower.wait_for("▶ running")
    follower.press("5")
    follower.wait_for("training begins")
    watched.process.kill()
    follower.wait_for("exited before")
    follower.press("q")
    assert follower.leave() == 0


@pytest.mark.slow
def test_two_followers_steer_one_script(watched: Watched, person: Callable[..., Person]) -> None:
    one, other = person("app", str(watched.folder)), person("app", str(watched.folder))
    one.wait_for("▶ running")
    other.wait_for("▶ running")
    one.press("L")
    other.wait_for("→ 2.0 at ")
    other.press(" ")
    one.wait_for("paused")
    one.press("u")
    other.wait_for("→ 1.0 at ")
    one.kill()
    other.press(" ")
    other.wait_for("▶ running")
    other.press("q")
    other.wait_for("and detach")
    other.press("\r")
    assert other.leave() == 0
    watched.wait_for_next_step()


@pytest.mark.slow
def test_what_a_stopped_script_left_is_said_in_its_terminal(script: Path, person: Callable[..., Person]) -> None:
    starter = person("watch", script.name)
    starter.wait_for("▶ running")
    stop(starter)
    assert starter.leave() == 0
    [run] = list_runs()
    after = starter.raw[starter.raw.rindex(b"\x1b[?1049l") :].decode()
    assert f"exit code {INTERRUPTED}" in after and str(run.path) in after.replace("\r\n", "")


def forbid_writing(control: Path) -> None:
    control.chmod(0o400)
    if os.access(control, os.W_OK):
        pytest.skip("this user may write to every file")


@pytest.mark.slow
@pytest.mark.parametrize("make_unwritable", [forbid_writing, Path.unlink], ids=["read-only", "missing"])
def test_a_follower_that_cannot_send_commands_only_watches(
    make_unwritable: Callable[[Path], None], watched: Watched, person: Callable[..., Person]
) -> None:
    make_unwritable(watched.folder / CONTROL)
    follower = person("app", str(watched.folder))
    follower.wait_for("▶ running")
    follower.wait_for("read only")
    follower.press("L q")
    assert follower.leave() == 0, "nothing to ask: it cannot stop the script"
    watched.wait_for_next_step()
    assert changes(watched.folder) == []


@pytest.mark.slow
def test_a_script_outlives_the_terminal_in_which_it_was_started(script: Path, person: Callable[..., Person]) -> None:
    first = person("watch", script.name)
    first.wait_for("▶ running")
    first.press("L")
    first.wait_for("→ 2.0 at ")
    first.terminal.hang_up()
    first.end()
    [run] = list_runs()
    holder = in_use(run.path)
    assert holder is not None
    try:
        second = person("app", str(run.path))
        second.wait_for("→ 2.0 at ")
        n_steps = max(event.step for event in run.events())
        second.wait_until(lambda screen: max(event.step for event in run.events()) > n_steps)
        stop(second)
        assert second.leave() == 0
        assert (script.parent / "cleanup").read_text() == "done"
    finally:
        if in_use(run.path) is not None:
            os.kill(holder.pid, signal.SIGKILL)
