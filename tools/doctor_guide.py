"""Write the tables of finding codes in docs/guide/doctor.md: `python -m tools.doctor_guide`."""

from pathlib import Path

from tui_lab.core.doctor.catalog import markdown

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "doctor.md"
START = "<!-- Written by tools/doctor_guide.py from core/doctor/catalog.py -->\n"
END = "<!-- End of what tools/doctor_guide.py writes -->\n"


def page() -> str:
    """Return the page with the tables of today."""
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{markdown()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
