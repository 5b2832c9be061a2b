"""Downloading a text from Project Gutenberg, from a server on this machine."""

import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

from tui_lab.data.corpora.fetch import PLATO, Book, body, fetch, words_hash
from tui_lab.util.errors import DataError

FRAME = "\ufeffThe Project Gutenberg eBook\r\nIntroduction\r\n{}\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK ***\r\n"
WORDS = "SOCRATES: I dare say\r\nthat you are surprised."


class Serve(BaseHTTPRequestHandler):
    """/book is the text; /cut is its beginning, without the rest that its header announces."""

    def do_GET(self) -> None:
        content = FRAME.format(WORDS).encode("utf-8")
        self.send_response(200 if self.path in ("/book", "/cut") else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:50] if self.path == "/cut" else content)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Serve) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def book(url: str, words: str = WORDS) -> Book:
    return Book("A book", url, "SOCRATES: I dare say", words_hash(words))


def test_fetch_saves_only_the_dialogue(server: str, tmp_path: Path) -> None:
    path = fetch(book(f"{server}/book"), tmp_path)
    assert path.read_text("utf-8") == WORDS.replace("\r\n", "\n") + "\n"
    assert list(tmp_path.iterdir()) == [path]


def test_fetch_does_not_download_a_present_text_again(server: str, tmp_path: Path) -> None:
    path = fetch(book(f"{server}/book"), tmp_path)
    assert fetch(book("http://127.0.0.1:1/offline"), tmp_path) == path


def test_fetch_replaces_a_damaged_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "alcibiades.txt").write_bytes(b"\xff half a file")
    assert words_hash(fetch(book(f"{server}/book"), tmp_path).read_text("utf-8")) == words_hash(WORDS)


@pytest.mark.parametrize(("path", "expected"), [("book", "SOCRATES: something else"), ("cut", WORDS)])
def test_fetch_refuses_another_text_and_saves_nothing(server: str, path: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(book(f"{server}/{path}", expected), tmp_path)
    assert caught.value.code == "damaged"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/book", "{server}/gone"])
def test_fetch_without_an_answer_names_the_url_and_the_bundled_text(address: str, server: str, tmp_path: Path) -> None:
    url = address.format(server=server)
    with pytest.raises(DataError) as caught:
        fetch(book(url), tmp_path)
    problem = caught.value.problems[0]
    assert (problem.code, problem.key) == ("unavailable", url)
    assert "data.path = 'bundled'" in problem.message


def test_fetch_gives_up_on_a_silent_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(request: urllib.request.Request, timeout: float) -> NoReturn:
        raise TimeoutError(f"no answer from {request.host} after {timeout} seconds")

    monkeypatch.setattr("urllib.request.urlopen", silent)
    with pytest.raises(DataError) as caught:
        fetch(PLATO, tmp_path)
    assert caught.value.code == "unavailable"


def test_body_refuses_a_page_without_the_dialogue() -> None:
    with pytest.raises(DataError) as caught:
        body("<html>captive portal</html>", PLATO.begins)
    assert caught.value.code == "damaged"
