"""`serve` answers only this machine's browser, and closing a tab saves its run."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.app.test_terminal import TINY
from tui_lab.cli.serve import GuardedServer
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run

PATIENCE = 300.0
"""Seconds after which a test counts as hanging."""


@asynccontextmanager
async def serving(command: str = "false") -> AsyncIterator[int]:
    """Run a server on a free port of 127.0.0.1, and yield the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = GuardedServer(command, host="127.0.0.1", port=port, title="tui-lab")
    runner = web.AppRunner(await server._make_app())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield port
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.1", 403),
        ("", 403),
        ("127.0.0.1:1", 403),
        ("[", 403),
    ],
)
async def test_request_with_another_host_name_is_refused(host: str, status: int) -> None:
    """DNS rebinding: the name of the page resolves to 127.0.0.1, and is in the Host header."""
    async with serving() as port, aiohttp.ClientSession() as client:
        named = host if ":" in host and not host.startswith("[:") else f"{host}:{port}"
        async with client.get(f"http://127.0.0.1:{port}/", headers={"Host": named}) as response:
            assert response.status == status
            if status == 200:
                page = await response.text()
                assert "<title>tui-lab</title>" in page and "googleapis" not in page, "nothing of other servers"
                assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
                assert f"127.0.0.1:{port}/ws" in page


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://evil.example:{port}", "http://127.0.0.1:1", "null", "", None, "file://"]
)
async def test_websocket_from_another_origin_is_refused(origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with serving() as port, aiohttp.ClientSession() as client:
        headers = {name: value.format(port=port) for name, value in headers.items()}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"http://127.0.0.1:{port}/ws", headers=headers)
        assert refused.value.status == 403


@pytest.mark.parametrize("path", ["/", "/ws", "/static/css/xterm.css", "/download/x"])
async def test_every_path_is_guarded(path: str) -> None:
    async with (
        serving() as port,
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}{path}", headers={"Host": f"evil.example:{port}"}) as response,
    ):
        assert response.status == 403


@pytest.mark.slow
async def test_closed_tab_saves_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "tiny.toml").write_text(settings.to_toml(settings.load("reverse", TINY)), "utf-8")
    command = f"{sys.executable} -m tui_lab app tiny.toml"
    async with serving(command) as port, aiohttp.ClientSession() as client:
        headers = {"Origin": f"http://localhost:{port}"}
        tab = await client.ws_connect(f"http://127.0.0.1:{port}/ws?width=120&height=40", headers=headers)
        painted = b""
        async with asyncio.timeout(PATIENCE):
            while "▶ running".encode() not in painted or b"tok/s" not in painted:
                message = await tab.receive()
                assert message.type == aiohttp.WSMsgType.BINARY, message
                painted += message.data
            await tab.close()
            [folder] = (tmp_path / "runs").iterdir()
            while not (folder / "summary.json").exists():
                await asyncio.sleep(0.05)
    run = Run(folder)
    assert json.loads((folder / "summary.json").read_text("utf-8"))["reason"] == "stopped"
    step = int(run.latest().name.removeprefix("step-"))
    assert step > 0
    going_on = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tui_lab",
        "run",
        "--resume",
        str(folder),
        "--steps",
        str(step + 5),
        "--quiet",
        env=dict(os.environ),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await going_on.wait() == 0
    assert max(event.step for event in runs.find(str(folder)).events()) == step + 5
