"""Build, check and try what is published: `make dist`."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from tools.distribution import build
from tools.distribution.fresh import Fresh, say


def main() -> int:
    """Return 0 if everything is right. The packages are in dist/, the environment in build/fresh/environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", default="torch", help="what pip installs as torch, with options")
    parser.add_argument("--extras", default="all", help="extras to install with the wheel; empty for none")
    parser.add_argument("--build-only", action="store_true", help="build and check, without an environment")
    arguments = parser.parse_args()

    begin = time.perf_counter()
    build.export(build.ROOT / "build" / "source")
    sdist, wheel = build.build(build.ROOT / "build" / "source", build.ROOT / "dist")
    build.check_metadata(sdist, wheel)
    try:
        n_files = build.check_contents(sdist, wheel)
    except build.WrongContents as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in (sdist, wheel):
        say(f"{path.relative_to(build.ROOT)}: {path.stat().st_size / 2**20:.2f} MiB")
    say(f"{n_files} files of the package in each, built and checked in {time.perf_counter() - begin:.1f} s\n")
    if not arguments.build_only:
        _try(wheel, arguments.extras, arguments.torch)
    return 0


def _try(wheel: Path, extras: str, torch: str) -> None:
    folder = build.ROOT / "build" / "fresh"
    shutil.rmtree(folder, ignore_errors=True)
    fresh = Fresh(folder)
    fresh.install(wheel, extras, torch)
    fresh.use()
    source = build.ROOT / "build" / "source"
    example = build.build_example(source, build.ROOT / "build" / "example")
    fresh.use_plugin(example, source / "examples" / "plugin" / "addition.toml")
    say("seconds:")
    for line, seconds in fresh.seconds.items():
        say(f"{seconds:6.1f}  {line}")
    say(f"{sum(fresh.seconds.values()):6.1f}  in all")


if __name__ == "__main__":
    sys.exit(main())
