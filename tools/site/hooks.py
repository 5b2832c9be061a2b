"""mkdocs calls these functions while it builds the site: they add the generated pages, and links to them.

mkdocs loads this file by its path (mkdocs.yml), and `python -m mkdocs` puts the repository on the module path. In its
environment are only mkdocs and the standard library, so tools/site/pages.py writes the pages before, in ours.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.site import findings, outside
from tui_lab.core.doctor.catalog import CATALOG

DOCTOR_PAGE = "guide/doctor.md"
PAGES = Path(__file__).parents[2] / "build" / "pages"
CODE_IN_TABLE = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    """Replace the navigation's entry for the findings by one entry for each."""
    assert config.nav is not None
    config.nav = _with_findings(config.nav)


def _with_findings(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_with_findings(part) for part in entry]
    if isinstance(entry, dict):
        return {title: _with_findings(part) for title, part in entry.items()}
    return findings.navigation() if entry == f"{findings.FOLDER}/index.md" else entry


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages."""
    for page in sorted(PAGES.rglob("*.md")):
        path = page.relative_to(PAGES).as_posix()
        files.append(File.generated(config, path, abs_src_path=str(page)))


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Link the codes in the doctor's tables, and show links to files that are not part of the site as paths."""
    path = page.file.src_uri
    if path == DOCTOR_PAGE:
        markdown = CODE_IN_TABLE.sub(_linked_code, markdown)
    return outside.without_links(markdown, path)


def _linked_code(match: re.Match[str]) -> str:
    code = match[1]
    return f"| [`{code}`](../{findings.path_of(code)}) |" if code in CATALOG else match[0]
