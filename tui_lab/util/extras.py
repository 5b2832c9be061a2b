"""Optional dependencies: what each extra of the package brings, and the error that names the extra."""

import importlib
from typing import Literal

from tui_lab.util.errors import ConfigError

Extra = Literal["plots", "sweep", "serve", "tensorboard", "huggingface", "lightning", "ray"]


def require(module: str, *, extra: Extra, feature: str) -> None:
    """Raise ConfigError with code "unavailable", naming `extra`, if `module` cannot be imported.

    feature: what needs the module, as the subject of the message: "tui-lab sweep".
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ConfigError.of("unavailable", f'{feature} needs {module}: pip install "tui-lab[{extra}]"') from error
