"""The site: every page is reached, every generated page is right, and what the check of the built site rejects.

`make docs` builds it strictly in CI; nothing here needs mkdocs.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.cli.documents import ROOT, check_usage, command_of, program
from tests.command_line import RunCli
from tools.site import check, findings, outside, reference
from tools.site.field_lists import with_lists
from tools.site.pages import generated, write
from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS
from tui_lab.core.doctor.findings import FindingCode

DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def entries(navigation: Any) -> Iterator[str]:
    """Yield the paths in a navigation of nested lists and dictionaries."""
    if isinstance(navigation, str):
        yield navigation
    else:
        for part in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from entries(part)


def text_of(path: str) -> str:
    return generated().get(path) or (DOCS / path).read_text("utf-8")


def test_navigation_has_every_page_once() -> None:
    """A new page needs an entry in `nav` of mkdocs.yml."""
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    made = {path for path in generated() if not path.startswith("findings/")} | {"findings/index.md"}
    in_navigation = list(entries(CONFIG["nav"]))
    assert sorted(in_navigation) == sorted(path for path in written | made if not path.startswith("log/"))


def test_findings_of_the_navigation_are_their_pages() -> None:
    assert sorted(entries(findings.navigation())) == sorted(findings.pages())


def test_a_page_begins_with_a_sentence_that_says_what_it_is_for() -> None:
    paths = list(entries(CONFIG["nav"]))
    assert len(paths) > 30
    for path in paths:
        title, _, rest = text_of(path).partition("\n")
        assert title.startswith("# "), path
        # Not a heading, list, table, picture or code.
        assert rest.strip()[0].isalpha(), path


def test_every_finding_has_a_page() -> None:
    assert set(findings.pages()) == {f"findings/{code}.md" for code in get_args(FindingCode)} | {"findings/index.md"}


def test_every_fault_is_shown_on_the_page_of_its_finding() -> None:
    for fault in FAULTS.values():
        page = findings.pages()[findings.path_of(fault.finding)]
        command = next(line for line in page.splitlines() if f'"{fault.name}"' in line)
        check_usage(shlex.split(command.partition(" > ")[0])[1:])


@pytest.mark.slow
@pytest.mark.usefixtures("doctor_in_process")
@pytest.mark.parametrize("fault", FAULTS)
def test_commands_of_a_page_show_its_finding(
    fault: str, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finding = FAULTS[fault].finding
    block = findings.pages()[findings.path_of(finding)].partition(f"the fault {fault}\n")[2].partition("```sh\n")[2]
    show, diagnose, _ = block.partition("```")[0].strip().splitlines()
    command, _, file = show.partition(" > ")
    Path(file).write_text(run_cli(*shlex.split(command)[1:]).out, "utf-8")
    done = run_cli(*shlex.split(diagnose)[1:], "--json")
    assert finding in [entry["code"] for entry in json.loads(done.out)["findings"]], done.err


def test_links_of_generated_pages_lead_to_pages() -> None:
    pages = {*generated(), *(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))}
    for path, text in generated().items():
        for link in re.findall(r"\]\(([^):#]+)[^):]*\)", outside.without_links(text, path)):
            target = (DOCS / path).parent / link
            assert target.resolve().relative_to(DOCS).as_posix() in pages, (path, link)


def test_settings_page_has_every_setting() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", reference.settings_page(), re.MULTILINE)
    assert rows == list(settings.fields())


def test_commands_page_has_every_command() -> None:
    headings = re.findall(r"^#+ tui-lab(.*)$", reference.commands_page(), re.MULTILINE)
    for heading in headings:
        command, rest = command_of(heading.split())
        assert not rest, heading
        assert not getattr(command, "commands", {}) or command is program() or f"{heading} " in "\n".join(headings)
    assert len(headings) == len(set(headings)) > len(program().commands)


def test_pages_of_an_earlier_build_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    (folder / "findings").mkdir(parents=True)
    (folder / "findings" / "removed_code.md").write_text("old", "utf-8")
    write(folder)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} == set(generated())


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[a file](../../examples/a.yml)", "a file (`examples/a.yml`)"),
        ("[`examples/a.yml`](../../examples/a.yml)", "`examples/a.yml`"),
        ("[a page](../scale.md)", "[a page](../scale.md)"),
        ("[elsewhere](https://example.org)", "[elsewhere](https://example.org)"),
    ],
)
def test_links_out_of_docs_become_paths(link: str, shown: str) -> None:
    assert outside.without_links(link, "guide/ci.md") == shown


def test_fields_of_a_docstring_become_a_list() -> None:
    docstring = "Do something.\n\nx: rows,\n    also longer ones.\ny: targets.\n\nMore text, which is not a field"
    first, fields, _ = with_lists(docstring).split("\n\n")
    assert first == "Do something."
    assert fields.splitlines() == ["- **x**: rows, also longer ones.", "- **y**: targets."]


def site_of(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>", "utf-8")
    return folder


@pytest.mark.parametrize(
    "body",
    [
        '<script src="https://example.org/a.js"></script>',
        '<script src="//example.org/a.js"></script>',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<img src="http://example.org/a.png">',
        '<a href="missing.html">x</a>',
        '<a href="second.html#missing">x</a>',
        '<img src="missing.svg">',
    ],
)
def test_check_rejects(body: str, tmp_path: Path) -> None:
    assert len(check.problems(site_of(tmp_path, index=body, second='<h2 id="here">x</h2>'))) == 1


def test_check_rejects_a_style_that_loads_from_a_network(tmp_path: Path) -> None:
    site = site_of(tmp_path, index="")
    (site / "a.svg").write_text(
        '<svg><style>@font-face {src: url("https://example.org/a.woff")}</style></svg>', "utf-8"
    )
    assert len(check.problems(site)) == 1


def test_check_rejects_an_empty_site(tmp_path: Path) -> None:
    assert check.problems(tmp_path)


def test_check_accepts_links_to_pages_anchors_and_other_sites(tmp_path: Path) -> None:
    body = '<a href="second.html#here">x</a><a href="#own" id="own">x</a><a href="https://example.org">x</a>'
    assert check.problems(site_of(tmp_path, index=body, second='<h2 id="here">x</h2>')) == []
