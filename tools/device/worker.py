"""A process that runs parts: `python -m tools.device.worker OUT FOLDER DEVICE dry|full NAMES…`.

It writes one JSON line to OUT when a part begins, for each of its rows, and when it ends. It stops after a part that
raised, since a GPU's error makes every later call in the process fail.
"""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from tools.device.parts import part_named


class _Output:
    def __init__(self, path: str) -> None:
        self._stream = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, part: str, **values: Any) -> None:
        self._stream.write(json.dumps({"part": part, **values}) + "\n")
        self._stream.flush()


def run_part(name: str, setting: Any, output: _Output) -> bool:
    """Run one part and return whether it ended without an exception."""
    output.write(name, event="begin")
    try:
        module, _, function = part_named(name).function.partition(":")
        part = getattr(importlib.import_module(f"tools.device.{module}"), function)
        for row in part(setting):
            output.write(name, row=vars(row))
    except Exception as error:
        traceback.print_exc()
        output.write(name, event="end", error=f"{type(error).__name__}: {error}"[:500])
        return False
    output.write(name, event="end", error="")
    return True


def main() -> None:
    out, folder, device, mode, *names = sys.argv[1:]
    output = _Output(out)
    output.write(names[0], event="begin")  # Importing torch counts.
    import torch

    from tools.device.setting import Setting

    if os.environ.get("DEVICE_DETERMINISTIC"):
        torch.use_deterministic_algorithms(True)
    setting = Setting(device, mode == "dry", Path(folder))
    for name in names:
        if not run_part(name, setting, output):
            break
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
