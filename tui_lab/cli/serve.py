"""The app in a browser, by textual-serve: for this machine's browser alone."""

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.server import Server

from tui_lab.app.app import pick_of
from tui_lab.util.child import shell_command
from tui_lab.util.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_host(host: str, *, risk: bool) -> None:
    """Raises ConfigError for an address that others can reach, unless the risk was taken on."""
    if not is_loopback(host) and not risk:
        raise ConfigError(
            [f"--host {host}: others could reach this address, and whoever does trains, reads and writes files as you; "
             "allowed are 127.0.0.1, ::1 and localhost, or this one with --i-understand-the-risk"]
        )  # fmt: skip


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guarded(Server):
    """Refuses requests that a page of another site makes in this machine's browser.

    A page anywhere can open a websocket to a loopback port (its Origin tells on it), or have a name of its own resolve
    to 127.0.0.1 (DNS rebinding; the Host header tells on it). Both must name this server.
    """

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_ours(request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="tui-lab: this server answers only to its own address")
        origin = request.headers.get("Origin")
        # A browser names the origin of every websocket; who names none is no browser, and reads no page's words.
        if request.path == "/ws" and (origin is None or not self._is_ours(urlsplit(origin).netloc)):
            raise web.HTTPForbidden(text="tui-lab: a page of another origin may not steer the lab")
        response = await handler(request)
        if not response.prepared:
            # No other page may show this one in a frame and lead clicks there.
            response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return response

    def _is_ours(self, netloc: str) -> bool:
        """Whether HOST:PORT is this server's: the address it was given, or any loopback name of one."""
        try:
            parts = urlsplit(f"//{netloc}")
            host, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        same = host == self.host.lower() or (is_loopback(self.host) and host in LOOPBACK)
        return port == self.port and (same or not is_loopback(self.host))


def serve(source: str | None, host: str, port: int, *, risk: bool) -> None:
    """Serve until interrupted; each visitor gets an app of their own. Raises ConfigError."""
    check_host(host, risk=risk)
    pick_of(source)
    command = shell_command("tui_lab", "app", *([source] if source else []))
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{port}"
    Guarded(command, host=host, port=port, title="tui-lab", public_url=url).serve()
