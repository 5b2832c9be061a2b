"""Files that a command writes besides its output: --junit and --sarif."""

from pathlib import Path

from tui_lab.cli.output import say
from tui_lab.util import files
from tui_lab.util.errors import ConfigError


def prepare(path: Path | None, key: str) -> None:
    """Create the folder of `path` before the work starts, and say so if it did not exist.

    Raises ConfigError with the option `key` if the file cannot be written there.
    """
    if path is None:
        return
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            say(f"{key}: created the folder {path.parent}")
        if path.is_dir():
            raise ConfigError.of(
                "invalid", "this is a folder", key=key, value=str(path), allowed=f"a file, such as {path / 'tui-lab'}"
            )
    except OSError as error:
        message = f"its folder cannot be created: {error.strerror}"
        raise ConfigError.of("unwritable", message, key=key, value=str(path)) from error


def write(path: Path, text: str, key: str) -> None:
    """Write `text` to `path`. Raises ConfigError with the option `key` if that is not possible."""
    try:
        files.write_text(path, text)
    except OSError as error:
        raise ConfigError.of("unwritable", f"not written: {error.strerror}", key=key, value=str(path)) from error
