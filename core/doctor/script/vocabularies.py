"""The sizes of the tokenizers among a script's variables."""

import contextlib
import sys

from tui_lab.core.watch.find_tokenizer import library_tokenizers
from tui_lab.core.watch.script_config import user_namespaces
from tui_lab.core.watch.script_objects import objects_in


def vocabulary_sizes() -> frozenset[int]:
    """Return the number of ids of each tokenizer of a library that the running functions of the script refer to.

    Tables of texts are left out: those of labels look like those of tokens. Never raises.
    """
    sizes: set[int] = set()
    with contextlib.suppress(Exception):  # Code of the user, such as a tokenizer with methods of its own.
        for namespace in user_namespaces(sys._getframe(1)):
            sizes |= {tokenizer.n_vocab for tokenizer in library_tokenizers(objects_in(dict(namespace)))}
    return frozenset(sizes)
