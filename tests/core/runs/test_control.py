"""The control channel: commands that one process appends reach the process that records the run, once and in order."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core import commands as cmd
from tui_lab.core.runs.control import MAX_LINE, ControlListener, SentCommands, can_send, send
from tui_lab.core.runs.run_files import CONTROL
from tui_lab.util.errors import RunError

COMMANDS: tuple[cmd.Command, ...] = (
    cmd.Pause(),
    cmd.Resume(),
    cmd.Step(3),
    cmd.Set("optim.lr", 0.01),
    cmd.Scale("optim.lr", 2.0),
    cmd.Shift("model.dropout", -0.05),
    cmd.Cycle("data.shuffle", ("epoch", "once")),
    cmd.Undo(),
    cmd.Evaluate(),
    cmd.Save(),
    cmd.Generate("answer-1", "To be", 20, 0.8, 5, 0.9, 3),
    cmd.Attend("answer-2", row=1),
    cmd.LookInside("answer-3", "ablation", row=1, how="mean"),
    cmd.Stop(),
)


class Channel:
    """A listener that is polled by the test instead of by its thread."""

    def __init__(self, folder: Path) -> None:
        self.received: list[cmd.Command] = []
        self.rejected: list[str] = []
        self.listener = ControlListener(folder, self.received.append, self.rejected.append)


def test_every_command_arrives_once_and_in_order(tmp_path: Path) -> None:
    channel = Channel(tmp_path)
    for command in COMMANDS:
        send(tmp_path, command)
    channel.listener.poll()
    channel.listener.poll()
    assert channel.received == list(COMMANDS) and not channel.rejected


def test_another_process_reads_what_was_sent(tmp_path: Path) -> None:
    sent = SentCommands(tmp_path)
    assert sent.poll() == []
    channel = Channel(tmp_path)
    send(tmp_path, cmd.Pause())
    channel.listener.poll()
    with (tmp_path / CONTROL).open("ab") as stream:
        stream.write(b"not a command\n")
    assert (sent.poll(), sent.poll()) == ([cmd.Pause()], [])
    send(tmp_path, cmd.Resume())
    assert (sent.poll(), SentCommands(tmp_path).poll()) == ([cmd.Resume()], [cmd.Pause(), cmd.Resume()])


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"command": "pause"}\n')
    (tmp_path / CONTROL).symlink_to(tmp_path / "elsewhere")
    assert SentCommands(tmp_path).poll() == []
    (tmp_path / CONTROL).unlink()
    os.mkfifo(tmp_path / CONTROL)
    assert SentCommands(tmp_path).poll() == []


def test_listener_thread_passes_commands_on(tmp_path: Path) -> None:
    import queue

    received: cmd.CommandQueue = queue.SimpleQueue()
    with ControlListener(tmp_path, received.put, poll_seconds=0.001):
        send(tmp_path, cmd.Pause())
        assert received.get(timeout=30) == cmd.Pause()
    assert not (tmp_path / CONTROL).exists()


def test_commands_for_an_earlier_process_are_dropped(tmp_path: Path) -> None:
    Channel(tmp_path)
    send(tmp_path, cmd.Stop())
    channel = Channel(tmp_path)
    channel.listener.poll()
    assert channel.received == []


def test_a_command_after_a_killed_senders_half_line_arrives(tmp_path: Path) -> None:
    channel = Channel(tmp_path)
    with (tmp_path / CONTROL).open("ab") as stream:
        stream.write(b'{"command": "pau')
    send(tmp_path, cmd.Undo())
    channel.listener.poll()
    assert channel.received == [cmd.Undo()] and len(channel.rejected) == 1


def test_a_command_written_in_parts_arrives_whole(tmp_path: Path) -> None:
    channel = Channel(tmp_path)
    with (tmp_path / CONTROL).open("ab", buffering=0) as stream:
        stream.write(b'{"command": "st')
        channel.listener.poll()
        stream.write(b'ep", "n": 2}\n')
        channel.listener.poll()
    assert channel.received == [cmd.Step(2)] and not channel.rejected


@given(st.binary(max_size=300))
def test_no_bytes_break_the_listener(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("run")
    channel = Channel(folder)
    with (folder / CONTROL).open("ab") as stream:
        stream.write(data)
    send(folder, cmd.Undo())
    channel.listener.poll()
    assert channel.received[-1] == cmd.Undo()


@pytest.mark.parametrize(
    "line",
    ['{"command": "snapshot"}', '{"command": "step", "n": "two"}', '{"command": "set"}', '{"command": "undo", "x": 1}'],
)
def test_a_wrong_command_is_rejected(tmp_path: Path, line: str) -> None:
    channel = Channel(tmp_path)
    with (tmp_path / CONTROL).open("a") as stream:
        stream.write(line + "\n")
    channel.listener.poll()
    assert channel.received == [] and len(channel.rejected) == 1


def test_only_the_owner_may_read_or_write_the_channel(tmp_path: Path) -> None:
    Channel(tmp_path)
    assert (tmp_path / CONTROL).stat().st_mode & 0o777 == 0o600 and can_send(tmp_path)


def test_sending_to_a_run_that_nobody_trains_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        send(tmp_path, cmd.Pause())
    assert caught.value.code == "not_found" and not can_send(tmp_path)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_not_a_regular_file_is_not_written_to(tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "elsewhere").touch()
        (tmp_path / CONTROL).symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(tmp_path / CONTROL)
    with pytest.raises(RunError) as caught:
        send(tmp_path, cmd.Pause())
    assert caught.value.code == "unwritable" and not can_send(tmp_path)


def test_commands_that_hold_functions_or_are_too_long_are_not_sent(tmp_path: Path) -> None:
    channel = Channel(tmp_path)
    with pytest.raises(ValueError):
        send(tmp_path, cmd.Inspect(lambda model: None))
    with pytest.raises(RunError):
        send(tmp_path, cmd.Set("data.path", "x" * MAX_LINE))
    channel.listener.poll()
    assert channel.received == []
