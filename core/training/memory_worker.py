"""The process that measures the memory of a config's steps: python -P -m tui_lab.core.training.memory_worker CONFIG OUT

writes JSON to the file OUT: the fields of `MeasuredMemory`, or {"error": …}.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from tui_lab.core.config import settings
from tui_lab.core.kernels.process_tuning import reduce_gc
from tui_lab.util.errors import ConfigError, DataError, RunError, TrainingError
from tui_lab.util.strict_json import dumps


def main(source: str, out: str) -> None:
    from tui_lab.core.training.memory_measure import measure

    try:
        result: dict[str, object] = asdict(measure(settings.load(source)))
    except (ConfigError, DataError, RunError, TrainingError) as error:
        result = {"error": str(error)}
    Path(out).write_text(dumps(result), "utf-8")


if __name__ == "__main__":
    reduce_gc()
    main(sys.argv[1], sys.argv[2])
