"""Build the sdist and the wheel from the tracked files, and check what they contain."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINKS = {"core": "tui_lab/core", "data": "tui_lab/data"}
"""Folders at the top, and the links through which they are imported. The packages have folders in place of links."""


class WrongContents(Exception):
    """A wheel or sdist lacks a file of the package, or has one that does not belong to it."""


def tracked_files() -> list[str]:
    """Return the paths of all files that git tracks, links included, and of new files that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in names if name and ((ROOT / name).exists() or (ROOT / name).is_symlink()))


def export(folder: Path) -> None:
    """Copy the tracked files into a new folder. A build in the checkout would include what earlier builds left."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)


def build(source: Path, out: Path) -> tuple[Path, Path]:
    """Build the sdist of `source`, and the wheel from the sdist, into the empty folder `out`. Returns both."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    [sdist] = out.glob("*.tar.gz")
    [wheel] = out.glob("*.whl")
    return sdist, wheel


def build_example(source: Path, out: Path) -> Path:
    """Build the wheel of the example of a plug-in into the folder `out`. Returns the wheel."""
    shutil.rmtree(out, ignore_errors=True)
    plugin = source / "examples" / "plugin"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(plugin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    [wheel] = out.glob("*.whl")
    return wheel


def check_metadata(sdist: Path, wheel: Path) -> None:
    """Let twine check the metadata, and check-wheel-contents the wheel. Ends the program if one fails."""
    for name, *arguments in (
        ["twine", "check", "--strict", str(sdist), str(wheel)],
        ["check-wheel-contents", str(wheel)],
    ):
        done = subprocess.run([str(Path(sys.executable).with_name(name)), *arguments], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)


def package_files() -> set[str]:
    """Return the files that a wheel must have: all tracked ones of the package, by their place in it."""
    files = set()
    for name in tracked_files():
        top, _, rest = name.partition("/")
        if (ROOT / name).is_symlink():
            continue
        if top in LINKS:
            files.add(f"{LINKS[top]}/{rest}")
        elif top == "tui_lab":
            files.add(name)
    return files


def check_contents(sdist: Path, wheel: Path) -> int:
    """Compare both with the tracked files of the package; return their number. Raises WrongContents."""
    expected = package_files()
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        if links := [member.name for member in archive if member.issym() or member.islnk()]:
            raise WrongContents(f"{sdist.name} has links, which some systems cannot unpack: {links}")
        in_sdist = {member.name.partition("/")[2] for member in archive if member.isfile()}
    problems = [
        *(f"{wheel.name} lacks {name}" for name in sorted(expected - in_wheel)),
        *(f"{wheel.name} has {name}" for name in sorted(in_wheel - expected)),
        *(f"{sdist.name} lacks {name}" for name in sorted(expected - in_sdist)),
    ]
    if problems:
        raise WrongContents("\n".join(problems))
    return len(expected)
