"""Optional dependencies: what each extra of the package brings, how to get it, and the error that names it."""

import importlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal

from tui_lab.util.errors import ConfigError

Extra = Literal["plots", "sweep", "serve", "tensorboard", "gpu", "huggingface", "lightning", "ray"]
Installer = Literal["pip", "pipx", "uv", "checkout"]

PURPOSES: dict[Extra, str] = {
    "plots": "HTML reports, and curves as SVG or PNG",
    "sweep": "tui-lab sweep",
    "serve": "tui-lab serve, the app in a browser",
    "tensorboard": "runs import of event files, and a viewer for exported ones",
    "gpu": "NVIDIA GPUs in the app's system pane",
    "huggingface": "tui_lab.HuggingFaceCallback",
    "lightning": "tui_lab.LightningCallback",
    "ray": "sweeps on a Ray cluster",
}


def installer() -> Installer:
    """Return what installed tui-lab; "checkout" for an editable installation."""
    if Path(sys.prefix, "pipx_metadata.json").exists():
        return "pipx"
    if Path(sys.prefix, "uv-receipt.toml").exists():
        return "uv"
    try:
        origin = metadata.distribution("tui-lab").read_text("direct_url.json") or ""
    except metadata.PackageNotFoundError:
        return "checkout"
    return "checkout" if '"editable": true' in origin else "pip"


def install_command(extra: Extra) -> str:
    """Return the command that adds an extra to this installation; tui-lab itself is not downloaded again."""
    commands: dict[Installer, str] = {
        "pipx": "pipx runpip tui-lab install",
        "uv": f"uv pip install --python {sys.prefix}",
    }
    return f'{commands.get(installer(), "pip install")} "tui-lab[{extra}]"'


def require(module: str, *, extra: Extra, feature: str) -> None:
    """Raise ConfigError with code "unavailable", naming `extra`, if `module` cannot be imported.

    feature: what needs the module, as the subject of the message: "tui-lab sweep".
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError.of("unavailable", f"{feature} needs {package}: {install_command(extra)}") from error
