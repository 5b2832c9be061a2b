"""Make all pictures and animations of the documentation from the real app: `python -m tools.pictures NANOGPT`.

NANOGPT is a checkout of nanoGPT, whose train.py is watched (`make pictures` gets one). Takes about ten minutes. Look at
the pictures before you commit them. `python -m tools.pictures NANOGPT demo` makes only those of one maker.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tui_lab.util.child import python_module

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Maker:
    """files: the names in docs/ of what it makes. make: is called with the checkout of nanoGPT."""

    files: tuple[str, ...]
    make: Callable[[Path], None]


def _tool(name: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"tools.{name}", *arguments], cwd=DOCS.parent, check=True)


def _draw_sweep() -> None:
    """Train the eleven runs of the preset, and take the figure that the sweep draws."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "dropout-sweep"
        command = python_module("tui_lab", "sweep", "dropout-sweep", "--out", str(sweep))
        subprocess.run(command, env={**os.environ, "TUI_LAB_RUNS": folder}, check=True, stdout=subprocess.DEVNULL)
        shutil.copyfile(sweep / "overlay.svg", DOCS / "dropout-sweep.svg")


MAKERS = {
    "lab": Maker(
        ("app.svg", "doctor.svg", "layout-80x24.svg", "layout-120x40.svg", "layout-200x50.svg"),
        lambda nanogpt: _tool("screenshots"),
    ),
    "watch": Maker(
        ("watch.svg", "watch-80x24.svg", "watch-200x50.svg"),
        lambda nanogpt: _tool("screenshots", str(nanogpt)),
    ),
    "demo": Maker(("demo.gif",), lambda nanogpt: _tool("demo")),
    "lesson": Maker(("lesson.gif",), lambda nanogpt: _tool("lesson_demo")),
    "sweep": Maker(("dropout-sweep.svg",), lambda nanogpt: _draw_sweep()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nanogpt", type=Path, metavar="NANOGPT")
    parser.add_argument("makers", nargs="*", metavar="MAKER", help=", ".join(MAKERS))
    arguments = parser.parse_args()
    if not (arguments.nanogpt / "train.py").is_file():
        parser.error(f"{arguments.nanogpt} has no train.py: it must be a checkout of nanoGPT")
    unknown = sorted({*arguments.makers} - {*MAKERS})
    if unknown:
        parser.error(f"{unknown[0]} is none of: {', '.join(MAKERS)}")
    for name in arguments.makers or MAKERS:
        sys.stderr.write(f"{name}: {', '.join(MAKERS[name].files)}\n")
        MAKERS[name].make(arguments.nanogpt.absolute())


if __name__ == "__main__":
    main()
