"""Packages that the machine lacks, from a folder of wheels: unpacked, since nothing is installed there."""

import zipfile
from pathlib import Path


def unpack(folder: Path, into: Path) -> Path:
    """Unpack every wheel of `folder` and return the folder for sys.path. Raises OSError or BadZipFile.

    A wheel is a zip file whose root is what belongs into site-packages (PEP 427). Compiled modules cannot be loaded
    from within a zip file.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise FileNotFoundError(f"no wheels in {folder}: run make device-wheels where there is a network")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
    return into
