"""The tokenizer of a script is recognized among its variables, and its table decodes as the script does."""

import random
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tui_lab.core.watch.tokenizer import script_tokenizer
from tui_lab.core.watch.tokenizer.find_tokenizer import find_tokenizer, from_object
from tui_lab.core.watch.tokenizer.script_tokenizer import MAX_IDS, ScriptTokenizer
from tui_lab.data.tokenizers import Gpt2Tokenizer, TableTokenizer, decode, from_state, gpt2_encoding

TEXT = "the cat sat on the mat.\n"
CHARS = sorted(set(TEXT))
STOI = {char: i for i, char in enumerate(CHARS)}
ITOS = dict(enumerate(CHARS))
N = len(CHARS)


def encode(text: str) -> list[int]:
    return [STOI[char] for char in text]


def decode_ids(ids: list[int]) -> str:
    return "".join(ITOS[i] for i in ids)


class CharDataset:
    """As minGPT's."""

    def __init__(self) -> None:
        self.stoi = STOI
        self.itos = ITOS


def collating(dataset: CharDataset) -> Callable[[list[str]], list[list[int]]]:
    return lambda texts: [[dataset.stoi[char] for char in text] for text in texts]


def field_of_torchtext() -> SimpleNamespace:
    return SimpleNamespace(vocab=SimpleNamespace(itos=CHARS))


class CharTokenizer:
    vocab_size = N

    def encode(self, text: str) -> torch.Tensor:
        return torch.tensor(encode(text))

    def decode(self, ids: list[int]) -> str:
        return decode_ids(ids)


class Vocabulary:
    """With the methods of tokenizers.Tokenizer."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def get_vocab(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(ids=[self.pieces.index(text)])

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.pieces[i] for i in ids)


def found(*namespaces: dict[str, Any], n_vocab: int | None = None) -> ScriptTokenizer:
    tokenizer = find_tokenizer(namespaces, n_vocab)
    assert tokenizer is not None
    return tokenizer


def check(tokenizer: ScriptTokenizer) -> None:
    """It encodes and decodes as the script does, also after it was written to a file."""
    ids = tokenizer.encode(TEXT)
    assert ids == encode(TEXT)
    table = from_state(tokenizer.tokenizer().state())
    assert decode(table, ids) == TEXT and table.n_vocab == N


class TestTables:
    @pytest.mark.parametrize(
        "variables",
        [
            {"itos": ITOS},
            {"itos": CHARS},
            {"itos": "".join(CHARS)},
            {"stoi": STOI, "text": TEXT},
            {"meta": {"vocab_size": N, "itos": ITOS, "stoi": STOI}},
            {"train_dataset": CharDataset()},
            {"loader": torch.utils.data.DataLoader(CharDataset())},  # type: ignore[arg-type]
            {"self": SimpleNamespace(train_dataset=CharDataset())},
            {"idx2char": ITOS, "char2idx": STOI},
            {"char_to_ix": {char: np.int64(i) for char, i in STOI.items()}},
            {"batches": SimpleNamespace(dataset=SimpleNamespace(fields={"src": field_of_torchtext()}))},
        ],
    )
    def test_table_of_a_script_is_found(self, variables: dict[str, Any]) -> None:
        check(found(variables, n_vocab=N))
        check(found({"lr": 1}, variables))

    @pytest.mark.parametrize(
        "variables",
        [
            {"number_dict": ITOS},
            {"tgt_vocab": STOI},
            {"vocabulary": OrderedDict(STOI)},
            {"model": SimpleNamespace(target=SimpleNamespace(_stoi=STOI))},
            {"loader": SimpleNamespace(collate_fn=collating(CharDataset()))},
        ],
        ids=["ids", "texts", "a subclass of dict", "in an object", "in a closure"],
    )
    def test_table_with_another_name_is_found(self, variables: dict[str, Any]) -> None:
        check(found(variables, n_vocab=N))

    @pytest.mark.parametrize(
        "table",
        [
            {text: i + 1 for text, i in STOI.items()},
            dict.fromkeys(CHARS, 0),
            {**ITOS, 0: ITOS[1]},
            {i: i for i in range(N)},
            CHARS[:-1],
            [CHARS[0]] * N,
        ],
        ids=["from 1", "no ids", "a text twice", "no texts", "too few", "equal texts"],
    )
    def test_other_collections_are_no_tables(self, table: Any) -> None:
        assert find_tokenizer([{"things": table}], N) is None

    def test_short_list_with_another_name_is_no_table(self) -> None:
        assert find_tokenizer([{"folds": ["a", "b", "c"]}], 3) is None

    def test_named_table_comes_first(self) -> None:
        assert found({"other": ITOS, "itos": ITOS}, n_vocab=N).source == "itos"

    @pytest.mark.parametrize(
        ("tokens", "text"),
        [(["P", "i", "want", "a", "beer", "S", "E"], " i want a beer"), (["<pad>", "EOS", "b", "e", "a", "r"], "bear")],
    )
    def test_words_are_told_from_letters_with_special_tokens(self, tokens: list[str], text: str) -> None:
        tokenizer = found({"word2idx": {token: i for i, token in enumerate(tokens)}})
        ids = [tokens.index(token) for token in (text.split() if " " in text else text)]
        assert decode(tokenizer.tokenizer(), ids) == text

    def test_pieces_of_words_are_joined(self) -> None:
        tokenizer = found({"vocab": {"[UNK]": 0, "the": 1, "cat": 2, "##s": 3}}, n_vocab=4)
        assert decode(tokenizer.tokenizer(), [1, 2, 3, 0]) == " the cats[UNK]"

    def test_words_are_separated(self) -> None:
        tokenizer = found({"word2idx": {"the": 0, "cat": 1, "sat": 2}})
        assert tokenizer.encode("cat the") == [1, 0]
        assert decode(tokenizer.tokenizer(), [1, 0]) == " cat the"

    def test_a_module_with_a_table(self) -> None:
        model = torch.nn.Linear(1, 1)
        model.stoi = STOI  # type: ignore[assignment]
        check(found({"model": model}, n_vocab=N))

    @pytest.mark.parametrize("itos", [{0: 5}, {"a": "b"}, {-1: "a"}, {MAX_IDS: "a"}, {}, 3, None, torch.ones(3)])
    def test_other_values_with_that_name(self, itos: Any) -> None:
        assert find_tokenizer([{"itos": itos}], None) is None


class TestChoice:
    def test_size_of_the_logits_decides(self) -> None:
        other = {"itos": list("xyz")}
        check(found(other, {"dataset": CharDataset()}, n_vocab=N))
        assert found(other, {"dataset": CharDataset()}, n_vocab=3).n_vocab == 3

    def test_padded_vocabulary_fits_better_than_a_small_one(self) -> None:
        variables = {"itos": CHARS, "enc": gpt2_encoding()}
        assert found(variables, n_vocab=50304).n_vocab == 50257
        assert found({"stoi": STOI, "enc": gpt2_encoding()}, n_vocab=N).n_vocab == N

    def test_tokenizer_with_more_tokens_than_logits_does_not_fit(self) -> None:
        assert find_tokenizer([{"enc": gpt2_encoding()}], 1000) is None

    def test_logits_of_the_size_of_gpt2_mean_its_tokenizer(self) -> None:
        tokenizer = found({"lr": 0.1}, n_vocab=50304)
        assert isinstance(tokenizer.tokenizer(), Gpt2Tokenizer)
        assert tokenizer.encode("Hello world") == [15496, 995]

    def test_nothing_is_found(self) -> None:
        assert find_tokenizer([{"x": 1, "y": object()}, {}], 100) is None


class TestLibraries:
    def test_gpt2_of_tiktoken(self) -> None:
        tokenizer = found({"enc": gpt2_encoding()}, n_vocab=50257)
        assert isinstance(tokenizer.tokenizer(), Gpt2Tokenizer)
        assert tokenizer.encode("Hello<|endoftext|>") == [15496, 50256]

    def test_other_encoding_of_tiktoken_with_unused_ids(self) -> None:
        import tiktoken

        ranks = {bytes([i]): i for i in range(256)} | {b"th": 256}
        encoding = tiktoken.Encoding("own", pat_str=r"\w+|\W+", mergeable_ranks=ranks, special_tokens={"<end>": 260})
        tokenizer = found({"enc": encoding})
        table = tokenizer.tokenizer()
        ids = tokenizer.encode("the ü<end>")
        assert (
            table.n_vocab == 261 and decode(table, ids) == "the ü<end>" and table.token_bytes(258) == "\ufffd".encode()
        )

    @pytest.mark.parametrize(
        ("pieces", "expected"),
        [
            (["Ġthe", "cat", "Ċ", "Ã¼", "<|end of text|>", "Ġ"], [" the", "cat", "\n", "ü", "<|end of text|>", " "]),
            (["<unk>", "▁the", "cat", "<0x0A>", "▁"], ["<unk>", " the", "cat", "\n", " "]),
            (["[UNK]", "[CLS]", "the", "##ing"], ["[UNK]", "[CLS]", " the", "ing"]),
            (["the</w>", "in"], ["the ", "in"]),
            (["a", "b", "ü"], ["a", "b", "ü"]),
        ],
    )
    def test_pieces_of_a_vocabulary_become_text(self, pieces: list[str], expected: list[str]) -> None:
        tokenizer = found({"tok": Vocabulary(pieces)}, n_vocab=len(pieces))
        table = tokenizer.tokenizer()
        assert [table.token_bytes(i).decode() for i in range(len(pieces))] == expected
        assert tokenizer.encode(pieces[1]) == [1]

    def test_byte_level_tokenizer_of_hugging_face(self) -> None:
        tokenizers = pytest.importorskip("tokenizers")
        own = tokenizers.ByteLevelBPETokenizer()
        own.train_from_iterator([TEXT * 20, "Grüße, 世界!"], vocab_size=300, special_tokens=["<|endoftext|>"])
        tokenizer = found({"tokenizer": tokenizers.Tokenizer.from_str(own.to_str())})
        for text in (TEXT, "Grüße, 世界! ¡a\tb"):
            assert decode(tokenizer.tokenizer(), tokenizer.encode(text)) == text

    def test_fast_tokenizer_of_transformers(self) -> None:
        tokenizers = pytest.importorskip("tokenizers")
        transformers = pytest.importorskip("transformers")
        own = tokenizers.ByteLevelBPETokenizer()
        own.train_from_iterator([TEXT * 20], vocab_size=300)
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer.from_str(own.to_str()), **{"bos_token": "<s>"}
        )
        tokenizer = found({"tokenizer": fast}, n_vocab=len(fast))
        assert decode(tokenizer.tokenizer(), tokenizer.encode(TEXT)) == TEXT
        assert tokenizer.tokenizer().token_bytes(fast.bos_token_id) == b"<s>"


class TestFunctions:
    def test_functions_of_the_script(self) -> None:
        check(found({"encode": encode, "decode": decode_ids}, n_vocab=N))
        check(found({"encode": encode, "decode": decode_ids, "vocab_size": N}))

    def test_methods_of_an_object_that_is_called_a_tokenizer(self) -> None:
        check(found({"tok": CharTokenizer()}))
        assert find_tokenizer([{"tok": SimpleNamespace(encode=encode, decode=decode_ids)}], N) is None

    def test_tokenizer_of_known_size_is_preferred(self) -> None:
        variables = {"encode": str.encode, "decode": lambda ids: "x", "enc": gpt2_encoding()}
        assert found(variables, n_vocab=50304).n_vocab == 50257

    @pytest.mark.parametrize(
        ("encoder", "decoder"),
        [
            (lambda text: 1 / 0, decode_ids),
            (encode, lambda ids: 1 / 0),
            (encode, lambda ids: torch.ones(3)),
            (lambda text: [10**6], decode_ids),
            (lambda text: "text", decode_ids),
            (lambda text: [], decode_ids),
        ],
    )
    def test_functions_that_fail_are_no_tokenizer(
        self, encoder: Callable[..., Any], decoder: Callable[..., Any]
    ) -> None:
        assert find_tokenizer([{"encode": encoder, "decode": decoder}], N) is None
        assert from_object((encoder, decoder), N) is None

    def test_random_numbers_of_the_script_stay_the_same(self) -> None:
        def random_decode(ids: list[int]) -> str:
            random.random(), np.random.rand(), torch.rand(1)
            return decode_ids(ids)

        def draws() -> list[float]:
            random.seed(0), np.random.seed(0), torch.manual_seed(0)
            found({"encode": encode, "decode": random_decode}, n_vocab=N).tokenizer()
            return [random.random(), np.random.rand(), float(torch.rand(1))]

        expected = [random.Random(0).random(), np.random.RandomState(0).rand()]
        assert draws()[:2] == expected
        assert draws()[2] == float(torch.rand(1, generator=torch.Generator().manual_seed(0)))


class TestGivenTokenizer:
    @pytest.mark.parametrize(
        "given", [ITOS, CHARS, CharDataset(), CharTokenizer(), (encode, decode_ids), {"itos": ITOS}, TableTokenizer]
    )
    def test_any_form_is_recognized(self, given: Any) -> None:
        if given is TableTokenizer:
            given = TableTokenizer([char.encode() for char in CHARS])
        tokenizer = from_object(given, N)
        assert tokenizer is not None
        check(tokenizer)

    @pytest.mark.parametrize("given", [None, 3, "gpt3", object(), {}, (1, 2), torch.nn.Linear(1, 1)])
    def test_other_objects(self, given: Any) -> None:
        assert from_object(given, N) is None

    def test_name_of_gpt2(self) -> None:
        tokenizer = from_object("gpt2")
        assert tokenizer is not None and isinstance(tokenizer.tokenizer(), Gpt2Tokenizer)


class TestLimits:
    def test_table_ends_with_the_time_limit(self) -> None:
        now = iter(range(1000))
        tokenizer = found({"itos": CHARS})
        limited = from_object(CHARS, N, clock=lambda: float(next(now)))
        assert limited is not None
        table = limited.tokenizer()
        assert table.n_vocab == N and table is limited.tokenizer()
        assert table.token_bytes(0) == tokenizer.tokenizer().token_bytes(0)
        assert table.token_bytes(N - 1) == "\ufffd".encode()

    def test_number_of_tokens_is_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(script_tokenizer, "MAX_IDS", 5)
        tokenizer = from_object((encode, decode_ids), N)
        assert tokenizer is not None and tokenizer.tokenizer().n_vocab == 5

    def test_code_that_raises_anywhere_means_no_tokenizer(self) -> None:
        class Hostile:
            def __getattribute__(self, name: str) -> Any:
                raise RuntimeError

        hostile = Hostile()
        assert (
            find_tokenizer([{"tokenizer": hostile, "itos": hostile, "encode": hostile, "decode": hostile}], N) is None
        )
        assert from_object(hostile, N) is None
