"""Hypothesis 6.170: no work that it repeats in every process of a fresh clone.

For the first text it draws it encodes each of the 1,114,112 code points (4 s), and before the first test it parses
every imported module of the project for constants to try (3 s). Those constants would also make the examples of a test
depend on the tests that ran before it.
"""

import gzip
import json
import os
import sys

from hypothesis.internal import charmap
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

FIRST_SURROGATE = 0xD800
LAST_SURROGATE = 0xDFFF
IN_UTF_8 = [[0, FIRST_SURROGATE - 1], [LAST_SURROGATE + 1, sys.maxunicode]]


def write_table_of_utf_8() -> None:
    """Write the file in which Hypothesis keeps the code points that UTF-8 can encode, and those that change by it."""
    path = charmap.charmap_file("codec-v2-utf-8")
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_suffix(f".{os.getpid()}")  # Other workers may write it now.
    own.write_bytes(gzip.compress(json.dumps([IN_UTF_8, []]).encode()))
    own.replace(path)


def draw_no_constants_of_the_project() -> None:
    """Draw none of the constants in the imported modules."""
    providers._get_local_constants = Constants
