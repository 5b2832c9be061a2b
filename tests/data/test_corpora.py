"""Corpora: encoded once, cached by content, and read from files, folders and globs."""

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
def test_corpus_is_the_encoding_of_its_file(tokenizer: str, tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path / "a.txt", TEXT + "ψυχή 馬"), tokenizer)
    assert corpus.tokens.tolist() == corpus.tokenizer.encode(TEXT + "ψυχή 馬").tolist()
    assert decode(corpus.tokenizer, corpus.tokens.tolist()) == TEXT + "ψυχή 馬"
    assert isinstance(corpus.tokens, np.memmap)


@given(st.text(st.sampled_from("ab 1.\n\t\r'sx\x1c\u00a0\u2003é馬"), max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_safe_cut_changes_no_token(text: str) -> None:
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


def test_file_read_in_many_pieces_has_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", TEXT * 20 + "ψυχή " * 50)
    whole = load_corpus(path, "gpt2").tokens.tolist()
    monkeypatch.setattr(corpora, "READ_BYTES", 11)
    monkeypatch.setenv("TUI_LAB_CACHE", str(tmp_path / "other"))
    assert load_corpus(path, "gpt2").tokens.tolist() == whole


def test_text_without_a_blank_is_cut_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "READ_BYTES", 100)
    monkeypatch.setattr(corpora, "MAX_PIECE", 300)
    corpus = load_corpus(write(tmp_path / "a.txt", "x" * 5000), "gpt2")
    assert decode(corpus.tokenizer, corpus.tokens.tolist()) == "x" * 5000


def load_with_report(path: str, work: list[str], tokenizer: str = "char") -> Corpus:
    """The corpus; `work` then holds the kinds of work that were reported."""
    work.clear()
    return load_corpus(path, tokenizer, lambda what, done, total: work.append(what))


def test_cache_is_used_until_the_text_or_tokenizer_changes(tmp_path: Path) -> None:
    work: list[str] = []
    path = write(tmp_path / "a.txt", TEXT)
    first = load_with_report(path, work)
    assert "encoding" in work
    assert load_with_report(path, work).tokens.tolist() == first.tokens.tolist() and "encoding" not in work
    write(tmp_path / "b.txt", TEXT)
    load_with_report(str(tmp_path / "b.txt"), work)
    assert "encoding" not in work, "keyed by content, not by name"
    load_with_report(path, work, "gpt2")
    assert "encoding" in work
    write(tmp_path / "a.txt", TEXT.replace("measure", "mistake"))
    load_with_report(path, work)
    assert "encoding" in work


@pytest.mark.parametrize("file", ["meta.json", "tokens.bin"])
@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_damaged_cache_is_written_again(file: str, damage: bytes | None, tmp_path: Path) -> None:
    work: list[str] = []
    path = write(tmp_path / "a.txt", TEXT)
    expected = load_with_report(path, work).tokens.tolist()
    [folder] = (cache_folder() / "tokens").iterdir()
    if damage is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(damage)
    assert load_with_report(path, work).tokens.tolist() == expected and "encoding" in work
    json.loads((folder / "meta.json").read_text("utf-8"))


def test_bytes_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path / "a.txt", b"good \xff bad \xfe\n" * 3), "char")
    assert corpus.n_replaced == 6
    assert load_corpus(str(tmp_path / "a.txt"), "char").n_replaced == 6, "from the cache too"


def test_folder_and_glob_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "c.py"):
        write(tmp_path / name, name)
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "d.txt", "d")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert [f.name for f in find_files(str(tmp_path))] == ["a.md", "b.txt", "d.txt"]
    assert [f.name for f in find_files(str(tmp_path / "*.py"))] == ["c.py"]
    assert [f.name for f in find_files(str(tmp_path / "**" / "d.txt"))].count("d.txt") >= 1


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [("bundeld", "bundled"), ("nowhere/*.txt", ""), (".", "")],
)
def test_path_without_text_is_refused(
    path: str, suggestion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(DataError) as caught:
        load_corpus(path, "char")
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.value) == ("not_found", "data.path", path)
    assert problem.suggestion == suggestion and "bundled" in problem.allowed


def test_missing_file_suggests_the_nearest_name_in_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "alcibiades.txt", TEXT)
    with pytest.raises(DataError) as caught:
        load_corpus(str(tmp_path / "alcibiade.txt"), "char")
    assert caught.value.problems[0].suggestion == str(tmp_path / "alcibiades.txt")


def test_empty_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_corpus(write(tmp_path / "a.txt", ""), "char")
    assert (caught.value.code, caught.value.problems[0].key) == ("invalid", "data.path")
