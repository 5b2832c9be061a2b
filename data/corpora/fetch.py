"""Download the public-domain Plato from Project Gutenberg and check its hash."""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tui_lab.util import files
from tui_lab.util.errors import DataError

TIMEOUT = 30.0
"""Seconds without an answer from the server."""
LARGEST_DOWNLOAD = 50 * 2**20
"""Bytes. The Bible has 4.5 million."""


@dataclass(frozen=True)
class Book:
    """A text at Project Gutenberg. Header and footer change with every release, so only the text between is hashed."""

    title: str
    url: str
    begins: str
    """The first words of the dialogue itself, after the translator's introduction."""
    words_sha256: str


PLATO = Book(
    title="Plato, Alcibiades I, translated by Benjamin Jowett",
    url="https://www.gutenberg.org/cache/epub/1676/pg1676.txt",
    begins="SOCRATES: I dare say",
    words_sha256="d5e1c9c4bb6d0a1c6800367cebb9a04e69a265e4e60265443a600bb2fe5e6bad",
)


def words_hash(text: str) -> str:
    """Return the sha256 of the words joined by single spaces: line ends and wrapping do not count."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8")).hexdigest()


def body(raw: str, begins: str) -> str:
    """Return the dialogue between Gutenberg's header and footer. Raises DataError when its first words are missing."""
    text = raw.replace("\r\n", "\n")
    end = re.search(r"^\*\*\* ?END OF", text, re.MULTILINE)
    start = text.find(begins)
    if start < 0:
        raise DataError.of("damaged", f"the download does not contain {begins!r}; it is not the expected text")
    return text[start : end.start() if end else len(text)].rstrip() + "\n"


def fetch(book: Book = PLATO, folder: Path | None = None) -> Path:
    """Download `book` unless it is already there, and return the path of its text.

    Raises DataError when the download fails or is another text than expected.
    """
    target = (folder or platformdirs.user_data_path("tui-lab")) / "alcibiades.txt"
    if target.exists() and words_hash(target.read_text("utf-8", errors="replace")) == book.words_sha256:
        return target
    text = body(_download(book), book.begins)
    if words_hash(text) != book.words_sha256:
        raise DataError.of(
            "damaged",
            f"the text has sha256 {words_hash(text)}, not {book.words_sha256}, and was not saved. "
            "If you trust it, download it by hand and set data.path to the file",
            key=book.url,
        )
    with files.new_file(target) as out:
        out.write(text.encode("utf-8"))
    return target


def _download(book: Book) -> str:
    """Return the text at the book's URL. Raises DataError."""
    request = urllib.request.Request(book.url, headers={"User-Agent": "tui-lab"})  # noqa: S310 - not the user's URL
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            content: bytes = response.read(LARGEST_DOWNLOAD)
        return content.decode("utf-8-sig")
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # It is also the response, whose socket is still open.
        raise DataError.of(
            "unavailable",
            f"could not download {book.title} ({error}); are you online? "
            "The bundled dialogues need no network: data.path = 'bundled'",
            key=book.url,
        ) from error
