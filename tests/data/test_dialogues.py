"""The bundled dialogues: plain text, long enough, varied, in turns."""

import re
from collections import Counter
from itertools import pairwise

from tui_lab.data.corpora.paths import find_files

FILES = find_files("bundled")


def paragraphs() -> list[str]:
    return [p for file in FILES for p in file.read_text("utf-8").split("\n\n") if p.strip()]


def test_dialogues_have_sixty_thousand_bytes_of_plain_text() -> None:
    texts = [file.read_bytes() for file in FILES]
    assert sum(map(len, texts)) >= 60_000
    assert all(text.isascii() and text.endswith(b"\n") for text in texts)


def test_every_paragraph_has_a_speaker_and_socrates_asks() -> None:
    speakers = Counter(re.match(r"([A-Z]+): \S", p.strip())[1] for p in paragraphs() if ":" in p)  # type: ignore[index]
    assert speakers.total() == len(paragraphs())
    assert speakers.most_common(1)[0][0] == "SOCRATES" and "ALCIBIADES" in speakers
    assert sum("?" in p for p in paragraphs() if p.startswith("SOCRATES")) > 100


def test_no_long_paragraph_is_repeated() -> None:
    long = Counter(p for p in paragraphs() if len(p) > 80)
    assert max(long.values()) == 1
    words = " ".join(paragraphs()).lower().split()
    eights = Counter(zip(*(words[i:] for i in range(8)), strict=False))
    assert max(eights.values()) <= 3, eights.most_common(3)


def test_speakers_take_turns() -> None:
    names = [p.partition(":")[0] for p in paragraphs()]
    assert sum(a == b for a, b in pairwise(names)) <= len(FILES)
