"""The doctor's child process: what user code prints, raises or never finishes cannot affect tui-lab.

    python -P -m tui_lab.core.doctor.worker CONFIG.toml|FILE.py:NAME OUT

writes JSON lines to OUT: {"check": …} before each check, then {"report": …} or {"problems": …}.
"""

import sys
from typing import Any

from tui_lab.core.kernels.process_tuning import reduce_gc
from tui_lab.util.errors import ConfigError, DataError, RunError
from tui_lab.util.strict_json import dumps


def main(source: str, out: str) -> None:
    """Diagnose `source` and write the lines to the file `out`."""
    sys.stdout = sys.stderr  # What user code prints is not part of the report.
    with open(out, "a", encoding="utf-8") as lines:

        def write(**record: Any) -> None:
            lines.write(dumps(record) + "\n")
            lines.flush()

        def on_check(name: str) -> None:
            write(check=name)

        try:
            from tui_lab.core.doctor.diagnose import examine_config, open_training
            from tui_lab.core.user_code.import_file import is_user_code

            if is_user_code(source):
                from tui_lab.core.doctor.program.case_target import examine
                from tui_lab.core.doctor.program.from_file import case_from

                report = examine(case_from(source, on_check), on_check=on_check)
            else:
                report = examine_config(*open_training(source, []), on_check)
            write(report=report.to_json())
        except (ConfigError, DataError, RunError) as error:
            write(problems=[problem.to_json() for problem in error.problems])


if __name__ == "__main__":
    reduce_gc()
    main(sys.argv[1], sys.argv[2])
