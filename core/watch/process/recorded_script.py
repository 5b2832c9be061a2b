"""A script to run: what is started, in which folder, and with which variables. The script of a recorded run is one."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tui_lab.core.config.script import ImportedConfig, ScriptConfig
from tui_lab.core.watch.process.script_process import Target
from tui_lab.util.errors import ConfigError


@dataclass(frozen=True)
class ScriptToRun:
    """folder: the current folder of the script; None: ours. variables: further ones of its environment."""

    target: Target
    folder: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def recorded_script(config: ScriptConfig) -> ScriptToRun:
    """Return the script of a run. Raises ConfigError if there is none, or if its file is gone."""
    if isinstance(config, ImportedConfig):
        raise ConfigError.of("unavailable", "this run was imported from a log: there is no program to run")
    if not config.command or "kernel_launcher" in config.command[0]:
        raise ConfigError.of("missing", "this run was recorded in a notebook, and has no script to run again")
    if not os.path.isdir(config.folder):
        raise ConfigError.of("not_found", "the script's folder does not exist", value=config.folder)
    target = target_of(config.command)
    if not target.is_module and not os.path.exists(os.path.join(config.folder, target.script)):
        raise ConfigError.of("not_found", f"no such file in {config.folder}", value=target.script)
    return ScriptToRun(target, config.folder, _one_process() if config.train.processes > 1 else {})


def target_of(command: Sequence[str]) -> Target:
    """Return the script of a recorded command: what follows `python` on its command line."""
    if command[0] == "-m":
        return Target(command[1], tuple(command[2:]), is_module=True)
    return Target(command[0], tuple(command[1:]))


def _one_process() -> dict[str, str]:
    """Return the environment variables that torchrun sets in the only process that it starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    return {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
