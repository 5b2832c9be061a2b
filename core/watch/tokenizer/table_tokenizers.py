"""Tokenizers made of a script's own tables, from ids to texts or from texts to ids."""

from collections.abc import Iterable
from typing import Any

from tui_lab.core.watch.tokenizer.library_tokenizers import of_word_piece
from tui_lab.core.watch.tokenizer.script_tokenizer import MAX_IDS, Clock, ScriptTokenizer
from tui_lab.core.watch.variables.script_objects import stored
from tui_lab.data.tokenizers import TableTokenizer

_ITOS = (
    "itos", "idx2char", "idx_to_char", "int_to_char", "ix_to_char", "id2char", "id_to_char", "i2c", "int2char",
    "idx2token", "id2token", "id_to_token", "ix_to_token", "idx2word", "idx_to_word", "id2word", "index_to_char",
)  # fmt: skip
_STOI = (
    "stoi", "char2idx", "char_to_idx", "char_to_int", "char_to_ix", "char2id", "char_to_id", "c2i", "char2int",
    "token2idx", "token2id", "token_to_id", "token_to_ix", "word2idx", "word_to_idx", "word2id", "char_to_index",
)  # fmt: skip

MIN_WORDS = 2
MIN_LIST = 20
"""Texts of a list that is taken for a table of tokens whatever its name is."""


def of_tables(owner: Any, clock: Clock) -> ScriptTokenizer | None:
    """itos or stoi among the entries or attributes of an object, or of its `vocab`, as the fields of torchtext have."""
    attributes = stored(owner)
    for entries in (attributes, stored(attributes.get("vocab"))):
        for name in _ITOS:
            if name in entries and (table := _texts(_pairs(entries[name]))):
                return _of_table(table, name, clock)
        for name in _STOI:
            mapping = entries.get(name)
            if isinstance(mapping, dict) and (table := _texts((i, text) for text, i in mapping.items())):
                return _of_table(table, name, clock)
    return None


def of_unnamed_tables(owner: Any, n_vocab: int, clock: Clock) -> ScriptTokenizer | None:
    """Return a table of exactly `n_vocab` texts among the entries or attributes of an object, under any name.

    It is a dict between the ids from 0 to n_vocab - 1 and as many different texts, or a list of so many texts that a
    coincidence is unlikely.
    """
    for name, value in stored(owner).items():
        if not isinstance(value, dict | list | tuple) or len(value) != n_vocab:
            continue
        if isinstance(value, dict):
            entries = list(dict.items(value))
            table = _texts(entries) or _texts((i, text) for text, i in entries)
        else:
            table = _texts(enumerate(value)) if n_vocab >= MIN_LIST else None
        if table is not None and len(set(table.values())) == n_vocab == max(table) + 1:
            return _of_table(table, str(name), clock)
    return None


def _pairs(itos: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(itos, dict):
        return itos.items()
    return enumerate(itos) if isinstance(itos, list | tuple | str) else ()


def _texts(pairs: Iterable[tuple[Any, Any]]) -> dict[int, str | bytes] | None:
    """Return id → text; None if they are not a table of tokens."""
    table: dict[int, str | bytes] = {}
    for i, text in pairs:
        if isinstance(i, bool) or not hasattr(i, "__index__") or not isinstance(text, str | bytes):
            return None
        if not 0 <= int(i) < MAX_IDS:
            return None
        table[int(i)] = text
    return table or None


def _are_words(texts: list[str]) -> bool:
    """Return whether most texts have several letters, or, as in a tiny vocabulary with "I" and "a", some are words.

    Special tokens such as <pad>, [SEP] and EOS are not words: a table of letters may have them.
    """
    longer = [text for text in texts if len(text) > 1]
    words = [text for text in longer if text.isalpha() and not text.isupper()]
    return len(longer) > len(texts) / 2 or len(words) >= MIN_WORDS


def _of_table(table: dict[int, str | bytes], name: str, clock: Clock) -> ScriptTokenizer:
    id_of = {text: i for i, text in reversed(table.items())}
    texts = [text for text in table.values() if isinstance(text, str)]
    is_words = not any(" " in text for text in texts) and _are_words(texts)
    raw = {i: text if isinstance(text, bytes) else text.encode("utf-8", "replace") for i, text in table.items()}
    is_word_piece = "[UNK]" in id_of and any(text.startswith("##") for text in texts)
    if is_word_piece:
        raw = {i: of_word_piece(token.decode()) for i, token in raw.items()}
    elif is_words:
        raw = {i: b" " + token for i, token in raw.items()}
    n_vocab = max(raw) + 1
    longest_match = TableTokenizer([raw.get(i, b"") for i in range(n_vocab)])

    def encode(text: str) -> list[int]:
        if is_words and not is_word_piece:
            return [id_of[word] for word in text.split() if word in id_of]
        return [int(i) for i in longest_match.encode(text)]

    return ScriptTokenizer(name, n_vocab, encode, raw.__getitem__, clock)
