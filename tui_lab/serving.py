"""The app in a browser, by textual-serve."""

import ipaddress
import shlex
import sys

from textual_serve.server import Server

from core.errors import ConfigError
from tui_lab.app import pick_of


def check_host(host: str, *, risk: bool) -> None:
    """Raises ConfigError for an address that others can reach, unless the risk was taken on."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not risk:
        raise ConfigError(
            [f"--host {host}: others could reach this address, and whoever does trains, reads and writes files as you; "
             "allowed are 127.0.0.1, ::1 and localhost, or this one with --i-understand-the-risk"]
        )  # fmt: skip


def serve(source: str | None, host: str, port: int, *, risk: bool) -> None:
    """Serve until interrupted; each visitor gets an app of their own. Raises ConfigError."""
    check_host(host, risk=risk)
    pick_of(source)
    command = [sys.executable, "-m", "tui_lab", "app", *([source] if source else [])]
    Server(shlex.join(command), host=host, port=port, title="tui-lab").serve()
