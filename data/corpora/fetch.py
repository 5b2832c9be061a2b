"""Bring the public-domain Plato from Project Gutenberg, checked by hash."""

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pooch

from tui_lab.util.errors import DataError


@dataclass(frozen=True)
class Book:
    """A text at Project Gutenberg. Its frame changes with every release, so the hash is of the words alone."""

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
    """sha256 of the words joined by single spaces: line ends and wrapping do not count."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8")).hexdigest()


def body(raw: str, begins: str) -> str:
    """The dialogue inside Gutenberg's frame: from its first words to the end marker. Raises DataError."""
    text = raw.replace("\r\n", "\n")
    end = re.search(r"^\*\*\* ?END OF", text, re.MULTILINE)
    start = text.find(begins)
    if start < 0:
        raise DataError(f"the download does not hold the words {begins!r}: it is not the expected text")
    return text[start : end.start() if end else len(text)].rstrip() + "\n"


def fetch(book: Book = PLATO, folder: Path | None = None) -> Path:
    """Download `book` unless it is there already; the path of its text. Raises DataError when offline."""
    target = (folder or platformdirs.user_data_path("tui-lab")) / "alcibiades.txt"
    if target.exists() and words_hash(target.read_text("utf-8")) == book.words_sha256:
        return target
    with tempfile.TemporaryDirectory() as temporary:
        try:
            raw = pooch.retrieve(book.url, known_hash=None, path=temporary, fname="book.txt")
        except (OSError, ValueError) as error:
            raise DataError(
                f"could not download {book.title} from {book.url}: are you online? "
                "The bundled dialogues need no network: data.path = 'bundled'"
            ) from error
        text = body(Path(raw).read_text("utf-8-sig"), book.begins)
    if words_hash(text) != book.words_sha256:
        raise DataError(
            f"{book.url} holds other words than expected (sha256 {words_hash(text)}, not {book.words_sha256}): "
            "nothing was kept. Download it by hand and give its path as data.path if you trust it"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    partial.write_text(text, "utf-8")
    partial.replace(target)
    return target
