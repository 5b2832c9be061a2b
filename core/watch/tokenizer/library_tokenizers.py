"""Tokenizers of tiktoken, transformers, tokenizers and sentencepiece, recognized without importing them."""

import functools
from collections.abc import Mapping
from typing import Any

from tui_lab.core.watch.tokenizer.script_tokenizer import MAX_IDS, Clock, ScriptTokenizer, TokenBytes, ids_of

GPT2_SIZES = (50257, 50304)
"""Sizes of the logits of a model over GPT-2's vocabulary: as it is, and padded as in nanoGPT."""


def of_library(obj: Any, clock: Clock) -> ScriptTokenizer | None:
    """Return a tokenizer of tiktoken, transformers, tokenizers or sentencepiece."""
    kind = type(obj)
    libraries = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "tiktoken" in libraries and hasattr(kind, "decode_single_token_bytes"):
        return _of_tiktoken(obj, clock)
    if "sentencepiece" in libraries and hasattr(kind, "IdToPiece"):
        n_vocab = int(obj.GetPieceSize())
        vocabulary = {obj.IdToPiece(i): i for i in range(min(n_vocab, MAX_IDS))}
        return ScriptTokenizer(
            "sentencepiece", n_vocab, lambda text: ids_of(obj.EncodeAsIds(text)), _lookup(vocabulary), clock
        )
    if hasattr(kind, "get_vocab") and hasattr(kind, "encode") and hasattr(kind, "decode"):
        vocabulary = obj.get_vocab()
        if isinstance(vocabulary, dict) and vocabulary:
            return _of_vocabulary(obj, vocabulary, clock)
    return None


def _of_tiktoken(encoding: Any, clock: Clock) -> ScriptTokenizer:
    def encode(text: str) -> list[int]:
        return ids_of(encoding.encode(text, allowed_special="all"))

    is_gpt2 = encoding.name in ("gpt2", "r50k_base", "gpt2-offline") and encoding.n_vocab == GPT2_SIZES[0]
    return ScriptTokenizer(
        f"tiktoken {encoding.name}", encoding.n_vocab, encode, encoding.decode_single_token_bytes, clock, is_gpt2
    )


def _of_vocabulary(obj: Any, vocabulary: dict[str, int], clock: Clock) -> ScriptTokenizer:
    """Return a tokenizer of Hugging Face, or one with the same methods: get_vocab returns text → id."""

    def encode(text: str) -> list[int]:
        try:
            return ids_of(obj.encode(text, add_special_tokens=False))
        except TypeError:
            return ids_of(obj.encode(text))

    n_vocab = max(vocabulary.values()) + 1
    return ScriptTokenizer(type(obj).__name__, n_vocab, encode, _lookup(vocabulary), clock)


def _lookup(vocabulary: Mapping[str, int]) -> TokenBytes:
    """Return a function from an id to its bytes; they are computed at the first call."""
    pieces: dict[int, bytes] = {}

    def token_bytes(token: int) -> bytes:
        if not pieces:
            pieces.update(_pieces(vocabulary))
        return pieces[token]

    return token_bytes


def _pieces(vocabulary: Mapping[str, int]) -> dict[int, bytes]:
    """Return id → bytes of a vocabulary in byte-level letters, with ▁ for spaces, or with ## or </w>."""
    n_byte_level = sum(piece.startswith("Ġ") for piece in vocabulary)
    n_sentence_piece = sum("▁" in piece for piece in vocabulary)
    is_word_piece = any(piece.startswith("##") for piece in vocabulary) and "[UNK]" in vocabulary
    if n_byte_level > n_sentence_piece:
        convert = _of_byte_level
    elif n_sentence_piece:
        convert = _of_sentence_piece
    else:
        convert = of_word_piece if is_word_piece else _of_plain
    return {i: convert(piece) for piece, i in vocabulary.items()}


def _of_byte_level(piece: str) -> bytes:
    """Return a piece in GPT-2's letters, one a byte; a special token may have others."""
    byte_of = _byte_of_letter()
    try:
        return bytes(byte_of[letter] for letter in piece)
    except KeyError:
        return piece.encode("utf-8", "replace")


def _of_sentence_piece(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode("utf-8", "replace")


def of_word_piece(piece: str) -> bytes:
    """Return a word after a space, or after ## its continuation, as in BERT's vocabulary.

    [MASK] and the like as they are.
    """
    if piece.startswith("[") and piece.endswith("]"):
        return piece.encode("utf-8", "replace")
    return (piece[2:] if piece.startswith("##") else " " + piece).encode("utf-8", "replace")


def _of_plain(piece: str) -> bytes:
    piece = piece.removesuffix("</w>") + " " if piece.endswith("</w>") else piece
    return piece.encode("utf-8", "replace")


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's letters of bytes (Radford et al. 2019, bytes_to_unicode): printable ones, then those from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
