"""Scripts of tests, given as indented text."""

import contextlib
import textwrap
from pathlib import Path
from typing import Any


def run_script(text: str, path: Path, variables: dict[str, Any]) -> None:
    """Write a script to a file, so that its source can be found, and run it to its end or its exit."""
    path.write_text(textwrap.dedent(text), "utf-8")
    code = compile(path.read_text("utf-8"), str(path), "exec")
    with contextlib.suppress(SystemExit):
        exec(code, variables)  # noqa: S102 - a script of a test.
