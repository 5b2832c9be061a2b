"""Unusual texts and paths: each is read unchanged or refused, in bounded time and memory."""

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from tui_lab.data.corpora import encode
from tui_lab.data.corpora.encode import load_corpus
from tui_lab.data.corpora.paths import find_files
from tui_lab.data.tasks.text import text_task
from tui_lab.data.tokenizers import decode
from tui_lab.util.errors import DataError

ODD = {
    "one character": b"x",
    "binary": bytes(range(256)) * 8,
    "invalid UTF-8": b"abc\xff\xfe\xc3( \xed\xa0\x80 end",
    "right to left": "שלום عليكم abc ".encode() * 10,
    "emoji": "👩‍👩‍👧🏽‍🚀 é́ ".encode() * 10,
    "controls": b"\x1b[31m\x1b]0;title\x07\x9b1m\x00\x08\r\n\t" * 10,
    "markup": b"[red]x[/] [link=http://x]y[/link] " * 10,
    "a byte order mark": b"\xef\xbb\xbfabc",
}


@pytest.mark.parametrize("tokenizer", ["char", "gpt2"])
@pytest.mark.parametrize("name", ODD)
def test_unusual_text_is_kept_unchanged(name: str, tokenizer: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.txt"
    file.write_bytes(ODD[name])
    corpus = load_corpus(str(file), tokenizer)
    expected = ODD[name].decode("utf-8", errors="replace")
    assert decode(corpus.tokenizer, corpus.tokens) == expected
    assert corpus.n_replaced == expected.count("\ufffd")


def test_one_character_is_too_short_to_train_on(tmp_path: Path) -> None:
    file = tmp_path / "one.txt"
    file.write_text("x")
    with pytest.raises(DataError) as caught:
        text_task(load_corpus(str(file), "char"), context=8, stride=1, val_fraction=0.1, vocab="full")
    assert caught.value.problems[0].key == "model.context"


@pytest.mark.slow
def test_line_without_end_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """24 MB without a blank, which would take ten times that as a list of ids."""
    file = tmp_path / "endless.txt"
    file.write_bytes(b"abcdefghijklmnop" * (24 * 2**16))
    tracemalloc.start()
    try:
        corpus = load_corpus(str(file), "char")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(corpus.tokens) == 24 * 2**20
    bound = (encode.AHEAD * (os.cpu_count() or 1) + 3) * encode.MAX_PIECE * 16
    assert peak < bound, f"{peak:,} bytes"


@pytest.mark.parametrize("where", ["itself", "in a folder", "by a glob"])
def test_pipe_is_never_opened(where: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    path = {"itself": tmp_path / "pipe.txt", "in a folder": tmp_path, "by a glob": tmp_path / "*.txt"}[where]
    with pytest.raises(DataError, match="a pipe, a device or a socket|no .txt or .md file|no such file"):
        find_files(str(path))
    (tmp_path / "real.txt").write_text("x")
    if where != "itself":
        assert find_files(str(path)) == (tmp_path / "real.txt",)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_device_is_never_opened(path: str) -> None:
    with pytest.raises(DataError, match=r"data.path = '/dev/.*(device|no such file)"):
        find_files(path)


def test_socket_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # The name of a socket is short.
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("s.txt")
        with pytest.raises(DataError, match="a pipe, a device or a socket"):
            find_files("s.txt")


def test_circular_links_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "real.txt").write_text("x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self.txt").symlink_to(tmp_path / "a" / "self.txt")
    (tmp_path / "a" / "gone.txt").symlink_to(tmp_path / "nothing")
    assert find_files(str(tmp_path)) == (tmp_path / "a" / "real.txt",)
    with pytest.raises(DataError):
        find_files(str(tmp_path / "a" / "self.txt"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("x" * 5000, "File name too long"),
        ("a\0b", "null|no such file"),
        ("~nobody-by-that-name/x", "home"),
        ("/" + "y/" * 3000, "too long"),
    ],
)
def test_impossible_path_is_a_short_error(path: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        find_files(path)
    assert len(str(caught.value)) < 600


def test_folder_of_a_thousand_files_is_one_text_in_the_order_of_names(tmp_path: Path) -> None:
    for i in range(1000):
        (tmp_path / f"{i:04}.txt").write_text(f"{i:04} ")
    corpus = load_corpus(str(tmp_path), "char")
    assert decode(corpus.tokenizer, corpus.tokens) == "".join(f"{i:04} " for i in range(1000))


def test_text_that_changes_while_it_is_read_is_not_cached(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    file.write_text("first " * 100)

    def write_more(what: str, done: int, total: int) -> None:
        if what == "encoding":
            with file.open("a") as out:
                out.write("more ")

    with pytest.raises(DataError, match=r"log.txt changed while it was read; try again"):
        load_corpus(str(file), "char", write_more)
    corpus = load_corpus(str(file), "char")
    assert decode(corpus.tokenizer, corpus.tokens) == file.read_text(), "nothing of the failed reading is left"


def test_growing_file_is_read_to_its_first_size(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    file.write_text("x" * 100)

    def write_more(what: str, done: int, total: int) -> None:
        with file.open("a") as out:
            out.write("y" * 2**17)

    with pytest.raises(DataError, match="changed while it was read"):
        load_corpus(str(file), "char", write_more)
    assert file.stat().st_size < 20 * 2**17


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_or_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    secret = tmp_path / "folder" / "secret.txt"
    secret.write_text("x")
    secret.chmod(0)
    with pytest.raises(DataError, match=r"Permission denied.*secret\.txt"):
        load_corpus(str(secret), "char")
    (tmp_path / "folder").chmod(0)
    try:
        with pytest.raises(DataError, match="Permission denied"):
            find_files(str(tmp_path))
    finally:
        (tmp_path / "folder").chmod(0o700)


def test_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("x")

    def refuse(path: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"Permission denied: .*secret\.txt"):
        load_corpus(str(file), "char")
