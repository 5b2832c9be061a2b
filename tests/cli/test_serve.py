"""`serve` accepts only addresses of this machine unless the user accepts the risk."""

import shlex
import socket
import sys

import pytest

from tests.command_line import RunCli
from tui_lab.cli import serve
from tui_lab.cli.serve import check_host, check_port
from tui_lab.util.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_address_is_accepted(host: str) -> None:
    check_host(host, risk=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_other_address_needs_the_risk_accepted(host: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_host(host, risk=False)
    [problem] = raised.value.problems
    assert (problem.code, problem.key, problem.value) == ("invalid", "--host", host)
    check_host(host, risk=True)


def test_port_in_use_is_refused_before_the_server_says_where_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            serve.serve(None, "127.0.0.1", port, risk=False)
    [problem] = raised.value.problems
    assert (problem.code, problem.key, problem.value) == ("in_use", "--port", port)
    check_port("127.0.0.1", port)


def test_exit_code_is_2_for_a_refused_address_or_source(run_cli: RunCli) -> None:
    done = run_cli("serve", "--host", "0.0.0.0")
    assert done.code == 2 and "--i-understand-the-risk" in done.err
    assert run_cli("serve", "nothing").code == 2


def test_app_without_a_terminal_names_the_command_to_use(run_cli: RunCli) -> None:
    done = run_cli()
    assert done.code == 2 and "tui-lab run PRESET" in done.err


def test_app_in_the_browser_does_not_import_from_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []

    class Recorder:
        def __init__(self, command: str, **options: object) -> None:
            commands.append(command)

        def serve(self) -> None:
            pass

    monkeypatch.setattr(serve, "GuardedServer", Recorder)
    monkeypatch.setattr(serve, "check_port", lambda host, port: None)
    monkeypatch.setenv("PYTHONPATH", ".")
    serve.serve("reverse", "127.0.0.1", 8000, risk=False)
    [words] = map(shlex.split, commands)
    assert "PYTHONPATH=" in words and words[words.index(sys.executable) + 1] == "-P"
