import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tui_lab.data.corpora.fetch import PLATO, Book, body, fetch, words_hash
from tui_lab.util.errors import DataError

FRAME = "\ufeffThe Project Gutenberg eBook\r\nIntroduction\r\n{}\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK ***\r\n"
WORDS = "SOCRATES: I dare say\r\nthat you are surprised."


class Serve(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/book" else 404)
        self.end_headers()
        self.wfile.write(FRAME.format(WORDS).encode("utf-8"))

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


def test_the_dialogue_alone_is_kept(server: str, tmp_path: Path) -> None:
    path = fetch(book(f"{server}/book"), tmp_path)
    assert path.read_text("utf-8") == WORDS.replace("\r\n", "\n") + "\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_is_not_fetched_again(server: str, tmp_path: Path) -> None:
    path = fetch(book(f"{server}/book"), tmp_path)
    assert fetch(book("http://127.0.0.1:1/offline"), tmp_path) == path


def test_other_words_are_refused_and_nothing_is_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="other words than expected"):
        fetch(book(f"{server}/book", "SOCRATES: something else"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/book", "{server}/gone"])
def test_offline_or_gone_says_so_and_names_the_bundled_text(address: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not download A book .*are you online\?.*bundled"):
        fetch(book(address.format(server=server)), tmp_path)


def test_a_page_that_is_no_book_is_refused() -> None:
    with pytest.raises(DataError, match="not the expected text"):
        body("<html>captive portal</html>", PLATO.begins)
