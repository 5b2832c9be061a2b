"""Write the generated pages of the site into a folder: `python -m tools.site.pages build/pages`."""

import shutil
import sys
from pathlib import Path

from tools.site import findings, outside, reference


def generated() -> dict[str, str]:
    """Return the Markdown of all generated pages by path inside docs."""
    return findings.pages() | reference.pages() | outside.pages()


def write(folder: Path) -> None:
    """Write all pages, and nothing else, into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, text in generated().items():
        page = folder / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
