"""The command line: `python -m tools.device [--dry-run] [--wheels FOLDER] [--json FILE] [--seconds N]`.

It exits with 1 if a part failed, ran out of time or was not run.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 345.0
"""For all parts, so that everything takes at most six minutes."""


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tools.device", description="Check correctness and speed on a GPU.")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with tiny models")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: the same checks, without a GPU")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels of packages that this machine lacks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit for all parts")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(sys.argv[1:] if argv is None else argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [str(ROOT)]
        if options.wheels is not None:
            from tools.device.wheels import unpack

            paths.append(str(unpack(options.wheels, folder / "packages")))
            sys.path[1:1] = paths
        old = os.environ.get("PYTHONPATH", "")
        environment = {
            "PYTHONPATH": os.pathsep.join([*paths, *([old] if old else [])]),
            "TUI_LAB_CACHE": str(folder / "cache"),
            "TUI_LAB_CONFIG": str(folder / "config"),
        }
        return run(options, folder, environment)


def run(options: argparse.Namespace, folder: Path, environment: dict[str, str]) -> int:
    """Run the parts with `environment` in `folder`, and print and write the results."""
    from tools.device.runner import Runner
    from tools.device.table import lines

    device = "cpu" if options.dry_run else options.device
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            sys.exit("no GPU: torch.cuda.is_available() is False")
    outcomes = Runner(device, folder, environment, options.seconds, dry_run=options.dry_run).run()
    sys.stdout.write("\n".join(lines(outcomes, dry_run=options.dry_run)) + "\n")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        values = {name: outcome.to_json() for name, outcome in outcomes.items()}
        options.json.write_text(json.dumps(values, indent=1), "utf-8")
    return 0 if all(outcome.status == "ok" for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
