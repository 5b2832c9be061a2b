import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_lab.data.corpora import encode as corpora
from tui_lab.data.corpora.encode import Corpus, load_corpus, safe_cut
from tui_lab.data.corpora.paths import find_files
from tui_lab.data.tokenizers import Gpt2Tokenizer, decode
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import DataError

TEXT = "SOCRATES: What is a measure?\n\nALCIBIADES: Something that agrees with itself.\n"


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize("tokenizer", ["gpt2", "char"])
def test_a_corpus_is_the_encoding_of_its_file(tokenizer: str, tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path / "a.txt", TEXT + "ψυχή 馬"), tokenizer)
    assert corpus.tokens.tolist() == corpus.tokenizer.encode(TEXT + "ψυχή 馬").tolist()
    assert decode(corpus.tokenizer, corpus.tokens.tolist()) == TEXT + "ψυχή 馬"
    assert isinstance(corpus.tokens, np.memmap)


@given(st.text(st.sampled_from("ab 1.\n\t\r'sx\x1c\u00a0\u2003é馬"), max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cutting_anywhere_that_is_safe_changes_no_token(text: str) -> None:
    tokenizer = Gpt2Tokenizer()
    ids: list[int] = []
    pending = ""
    for start in range(0, len(text), 7):
        pending += text[start : start + 7]
        cut = safe_cut(pending)
        ids += tokenizer.encode(pending[:cut]).tolist()
        pending = pending[cut:]
    ids += tokenizer.encode(pending).tolist()
    assert ids == tokenizer.encode(text).tolist()


def test_a_file_read_in_many_pieces_gives_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", TEXT * 20 + "ψυχή " * 50)
    whole = load_corpus(path, "gpt2").tokens.tolist()
    monkeypatch.setattr(corpora, "READ_BYTES", 11)
    monkeypatch.setenv("TUI_LAB_CACHE", str(tmp_path / "other"))
    assert load_corpus(path, "gpt2").tokens.tolist() == whole


def test_a_text_without_a_blank_is_cut_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "READ_BYTES", 100)
    monkeypatch.setattr(corpora, "MAX_PIECE", 300)
    corpus = load_corpus(write(tmp_path / "a.txt", "x" * 5000), "gpt2")
    assert decode(corpus.tokenizer, corpus.tokens.tolist()) == "x" * 5000


def load_telling(path: str, told: list[str], tokenizer: str = "char") -> Corpus:
    told.clear()
    return load_corpus(path, tokenizer, lambda what, done, total: told.append(what))


def test_the_second_time_comes_from_the_cache_until_the_text_or_tokenizer_changes(tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path / "a.txt", TEXT)
    first = load_telling(path, told)
    assert "encoding" in told
    assert load_telling(path, told).tokens.tolist() == first.tokens.tolist() and "encoding" not in told
    write(tmp_path / "b.txt", TEXT)
    load_telling(str(tmp_path / "b.txt"), told)
    assert "encoding" not in told, "keyed by content, not by name"
    load_telling(path, told, "gpt2")
    assert "encoding" in told
    write(tmp_path / "a.txt", TEXT.replace("measure", "mistake"))
    load_telling(path, told)
    assert "encoding" in told


@pytest.mark.parametrize("file", ["meta.json", "tokens.bin"])
@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_damaged_cache_is_made_anew(file: str, damage: bytes | None, tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path / "a.txt", TEXT)
    expected = load_telling(path, told).tokens.tolist()
    [folder] = (cache_folder() / "tokens").iterdir()
    if damage is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(damage)
    assert load_telling(path, told).tokens.tolist() == expected and "encoding" in told
    json.loads((folder / "meta.json").read_text("utf-8"))


def test_bytes_that_are_no_utf8_are_counted(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path / "a.txt", b"good \xff bad \xfe\n" * 3), "char")
    assert corpus.n_replaced == 6
    assert load_corpus(str(tmp_path / "a.txt"), "char").n_replaced == 6, "from the cache too"


def test_a_folder_and_a_glob_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "c.py"):
        write(tmp_path / name, name)
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "d.txt", "d")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert [f.name for f in find_files(str(tmp_path))] == ["a.md", "b.txt", "d.txt"]
    assert [f.name for f in find_files(str(tmp_path / "*.py"))] == ["c.py"]
    assert [f.name for f in find_files(str(tmp_path / "**" / "d.txt"))].count("d.txt") >= 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("bundeld", "did you mean 'bundled'?"),
        ("nowhere/*.txt", "no such file, folder or glob"),
        (".", "no .txt or .md"),
    ],
)
def test_a_path_with_no_text_says_what_is_allowed(
    path: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(DataError) as caught:
        load_corpus(path, "char")
    assert words in str(caught.value) and "allowed: a text file" in str(caught.value)


def test_a_near_name_in_the_folder_is_proposed(tmp_path: Path) -> None:
    write(tmp_path / "alcibiades.txt", TEXT)
    with pytest.raises(DataError, match=r"did you mean .*alcibiades\.txt\?"):
        load_corpus(str(tmp_path / "alcibiade.txt"), "char")


def test_an_empty_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        load_corpus(write(tmp_path / "a.txt", ""), "char")
