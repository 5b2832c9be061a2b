"""An examination in a process of its own: what a stranger's file prints, raises or loops cannot touch the lab.

    python -m tui_lab.core.doctor.worker CONFIG.toml|FILE.py:NAME OUT

writes JSON lines to OUT: {"check": …} as it goes, then {"report": …} or {"problem": …}.
"""

import sys
from typing import Any

from tui_lab.util.errors import ConfigError, DataError, RunError
from tui_lab.util.strict_json import dumps


def main(source: str, out: str) -> None:
    # What the file prints is diagnostics.
    sys.stdout = sys.stderr
    with open(out, "a", encoding="utf-8") as lines:

        def tell(**record: Any) -> None:
            lines.write(dumps(record) + "\n")
            lines.flush()

        try:
            from tui_lab.core.doctor.diagnose import examine_config, open_training
            from tui_lab.core.user_code.import_file import is_stranger

            if is_stranger(source):
                from tui_lab.core.doctor.case import examine
                from tui_lab.core.doctor.from_file import case_from

                case = case_from(source, watch=lambda doing: tell(check=doing))
                report = examine(case, watch=lambda name: tell(check=name))
            else:
                report = examine_config(*open_training(source, []), lambda name: tell(check=name))
            tell(report=report.to_json())
        except (ConfigError, DataError, RunError) as error:
            tell(problem=str(error))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
