"""Which files a script runs without importing them, as nanoGPT does with its config files: found by their names.

An audit hook would see every file that is executed. It cannot be removed again, and torch.compile would trace it, so it
could change what the script does. Names are read from text alone.
"""

import re
from collections.abc import Iterable, Iterator

_NAME = re.compile(r"[^'\"]{1,250}\.py")
_CALL = re.compile(
    rb"""\b (?: exec | run_path | spec_from_file_location ) \s{0,80} \( \s{0,80}
         [^#\n]{0,200}? ["'] ( [^"'\n]{1,250} \.py ) ["']""",
    re.VERBOSE,
)
"""A call that runs code, and in its first line a text that ends in .py: exec(open("config.py").read())."""


def names_in_arguments(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the names of Python files among the arguments of a script: config/small.py, --config=config/small.py."""
    for argument in arguments:
        name = argument.rpartition("=")[2]
        if _NAME.fullmatch(name):
            yield name


def names_in_code(content: bytes) -> Iterator[str]:
    """Yield the names of Python files that the code runs, where they stand in it."""
    for match in _CALL.finditer(content):
        line_start = content.rfind(b"\n", 0, match.start()) + 1
        if b"#" not in content[line_start : match.start()]:
            yield match[1].decode("utf-8", "replace")
