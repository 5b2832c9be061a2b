"""Examine a stranger's file in a process of its own: what it prints, raises or loops cannot touch the lab.

python -m tui_lab.examiner FILE.py:NAME OUT     writes JSON lines to OUT: {"check": …}, then {"report": …} or
                                                 {"problem": …}
"""

import sys
from typing import Any

from core.errors import ConfigError
from core.jsontext import dumps


def main(source: str, out: str) -> None:
    # What the file prints is diagnostics: standard output belongs to the report.
    sys.stdout = sys.stderr
    with open(out, "a", encoding="utf-8") as lines:

        def tell(**record: Any) -> None:
            lines.write(dumps(record) + "\n")
            lines.flush()

        try:
            from core.doctor.case import examine
            from core.doctor.stranger import case_from

            case = case_from(source, watch=lambda doing: tell(check=doing))
            tell(report=examine(case, watch=lambda name: tell(check=name)).to_json())
        except ConfigError as error:
            tell(problem=str(error))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
