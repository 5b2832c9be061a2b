"""`tui-lab serve`: the app in a browser of this machine, by textual-serve."""

import errno
import html
import ipaddress
import logging
import re
import socket
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.server import Server

from tui_lab.app.app import pick_of
from tui_lab.cli.output import say
from tui_lab.util.child import shell_command
from tui_lab.util.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_WEB_FONT = re.compile(r"<link\b[^>]*fonts\.googleapis\.com[^>]*>\s*")


def check_host(host: str, *, risk: bool) -> None:
    """Raise ConfigError for an address that other machines can reach, unless `risk` is accepted."""
    if not is_loopback(host) and not risk:
        raise ConfigError.of(
            "invalid",
            "other machines could reach this address, and anyone there could train, read and write files as you",
            key="--host",
            value=host,
            allowed="127.0.0.1, ::1, localhost, or any address with --i-understand-the-risk",
        )


def check_port(host: str, port: int) -> None:
    """Raise ConfigError if the server could not listen there: it would say that it does before it tries."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As asyncio does.
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError.of("in_use", "is in use; choose another one", key="--port", value=port) from None
        message = f"cannot listen at port {port}: {error.strerror or error}; see --port"
        raise ConfigError.of("unavailable", message, key="--host", value=host) from None


def is_loopback(host: str) -> bool:
    """Return whether `host` is an address of this machine that no other machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class GuardedServer(Server):
    """A server that refuses requests of other sites' pages in this machine's browser.

    Any page can open a websocket to a loopback port, which its Origin header shows, or let its own domain name resolve
    to 127.0.0.1 (DNS rebinding), which the Host header shows. Both headers must name this server.
    """

    def initialize_logging(self) -> None:
        """Log only problems: a line per request would hide them."""
        logging.basicConfig(level=logging.WARNING, format="tui-lab: %(message)s")

    async def on_startup(self, app: web.Application) -> None:
        say(f"tui-lab is at {self.public_url}; Ctrl+C stops it")

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """Return the page with a title, and without the font that it would load from another server."""
        page = await super().handle_index(request)
        assert isinstance(page, web.Response)
        without_font = _WEB_FONT.sub("", page.text or "")
        page.text = without_font.replace("<head>", f"<head>\n    <title>{html.escape(self.title)}</title>", 1)
        return page

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_ours(request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="tui-lab: the Host header does not name this server")
        origin = request.headers.get("Origin")
        # Browsers send the origin of every websocket; a client that sends none is not a browser.
        if request.path == "/ws" and (origin is None or not self._is_ours(urlsplit(origin).netloc)):
            raise web.HTTPForbidden(text="tui-lab: pages from other origins may not use this server")
        response = await handler(request)
        if not response.prepared:
            # No other page may show this one in a frame and redirect clicks to it.
            response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return response

    def _is_ours(self, netloc: str) -> bool:
        """Return whether HOST:PORT is this server's address, or another loopback name if it is a loopback address."""
        try:
            parts = urlsplit(f"//{netloc}")
            host = parts.hostname or ""
            port = parts.port or 80
        except ValueError:
            return False
        same = host == self.host.lower() or (is_loopback(self.host) and host in LOOPBACK)
        return port == self.port and (same or not is_loopback(self.host))


def serve(source: str | None, host: str, port: int, *, risk: bool) -> None:
    """Serve until interrupted; each browser tab gets its own app. Raises ConfigError."""
    check_host(host, risk=risk)
    check_port(host, port)
    pick_of(source)
    command = shell_command("tui_lab", "app", *([source] if source else []))
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{port}"
    title = f"{source} · tui-lab" if source else "tui-lab"
    GuardedServer(command, host=host, port=port, title=title, public_url=url).serve()
