"""The guide's tables of finding codes are those of the catalog."""

from typing import get_args

from tools.doctor_guide import PAGE, page
from tui_lab.core.doctor.catalog import CATALOG
from tui_lab.core.doctor.findings import FindingCode


def test_every_code_has_an_entry() -> None:
    assert set(CATALOG) == set(get_args(FindingCode))


def test_guide_has_the_tables_of_today() -> None:
    assert PAGE.read_text("utf-8") == page()
