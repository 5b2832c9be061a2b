"""Tokenizers of plug-ins: made from a text or from their stored state, and checked before they are used."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import LabError
from tui_lab.util.plugin_registry import Plugin, PluginError, find

LARGEST_STATE = 2**24
"""Characters of the JSON of a tokenizer's state; a run folder holds it."""


class TokenizerFactory(Protocol):
    """What the entry point of a tokenizer names: a class with these two class methods, or any such object."""

    def from_text(self, pieces: Iterable[str]) -> Tokenizer:
        """Make the tokenizer for a text, which comes in pieces. One that needs no text ignores it."""
        ...

    def from_state(self, state: dict[str, Any]) -> Tokenizer:
        """Rebuild the tokenizer whose `state()` this is."""
        ...


class CheckedTokenizer:
    """A plug-in's tokenizer whose ids are checked: a wrong one would train without an error, or fail far away."""

    def __init__(self, plugin: Plugin, tokenizer: Tokenizer) -> None:
        self._plugin = plugin
        self._tokenizer = tokenizer
        self.name = plugin.name
        self.n_vocab = int(tokenizer.n_vocab)

    def encode(self, text: str) -> npt.NDArray[np.int64]:
        """Return ids of shape [n]. Raises PluginError for what are not ids below n_vocab."""
        with _blamed(self._plugin, "encode"):
            ids = np.asarray(self._tokenizer.encode(text))
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise self._plugin.error(f"encode returned {ids.dtype} {list(ids.shape)}, not integers [n]")
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.n_vocab:
            worst = int(ids.min()) if ids.min() < 0 else int(ids.max())
            raise self._plugin.error(f"encode returned the id {worst}, and n_vocab is {self.n_vocab}")
        return ids.astype(np.int64)

    def token_bytes(self, token: int) -> bytes:
        with _blamed(self._plugin, "token_bytes"):
            return bytes(self._tokenizer.token_bytes(token))

    def state(self) -> dict[str, Any]:
        with _blamed(self._plugin, "state"):
            return {**self._tokenizer.state(), "name": self.name}


def from_text(name: str, pieces: Iterable[str]) -> Tokenizer:
    """Return the tokenizer of a plug-in for a text. Raises PluginError."""
    plugin = _plugin(name)
    factory: TokenizerFactory = plugin.load()
    with _blamed(plugin, "from_text"):
        made = factory.from_text(pieces)
    tokenizer = _checked(plugin, made)
    rebuilt = from_state(name, _stored(plugin, tokenizer))
    if (rebuilt.n_vocab, rebuilt.state()) != (tokenizer.n_vocab, tokenizer.state()):
        raise plugin.error("from_state(tokenizer.state()) is another tokenizer: its n_vocab or its state() differs")
    return tokenizer


def from_state(name: str, state: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer of a plug-in with this state. Raises PluginError."""
    plugin = _plugin(name)
    factory: TokenizerFactory = plugin.load()
    with _blamed(plugin, "from_state"):
        made = factory.from_state(state)
    return _checked(plugin, made)


def origin(name: str) -> str:
    """Return the package and version of a tokenizer's plug-in: another version may give other tokens."""
    return _plugin(name).origin


def _plugin(name: str) -> Plugin:
    plugin = find("tokenizers", name)
    if plugin is None:
        raise PluginError.of("not_found", "no installed package has this tokenizer", key="tokenizer", value=name)
    return plugin


def _checked(plugin: Plugin, made: Any) -> CheckedTokenizer:
    n_vocab = getattr(made, "n_vocab", None)
    if type(n_vocab) is not int or not 0 < n_vocab <= 2**31:
        raise plugin.error(f"n_vocab is {n_vocab!r}, not a number of tokens")
    return CheckedTokenizer(plugin, made)


def _stored(plugin: Plugin, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the state as it is read from a run folder."""
    try:
        text = json.dumps(tokenizer.state())
    except (TypeError, ValueError) as error:
        raise plugin.error("state() is not JSON", error) from error
    if len(text) > LARGEST_STATE:
        raise plugin.error(f"state() takes {len(text):,} characters of JSON, and {LARGEST_STATE:,} are allowed")
    state: dict[str, Any] = json.loads(text)
    return state


@contextmanager
def _blamed(plugin: Plugin, what: str) -> Iterator[None]:
    """Turn what the plug-in's code raises into a PluginError; an error that it means for the user stays as it is."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        raise plugin.error(f"{what} failed", error) from error
