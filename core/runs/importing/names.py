"""How an imported run is called: after its file or folder, unless that says nothing."""

import re
from pathlib import Path

SAY_NOTHING = frozenset(
    {"metrics", "log", "logs", "history", "progress", "results", "train", "training", "training_log", "trainer_state"}
)
"""Names of files that every run has."""
FOLDERS_OF_LOGS = frozenset({"logs", "log", "runs", "tensorboard", "tb", "tb_logs"})
NUMBERED = re.compile(r"(version_|checkpoint-)\d+")
"""Names of folders that every run has, too."""


def name_of(path: Path) -> str:
    """Return the name of the run in a file or folder.

    That of trainer_state.json is the folder of the checkpoints; that of lightning_logs/version_0/metrics.csv is
    lightning_logs-version_0.
    """
    path = path.resolve()
    if path.is_dir():
        return folder_name(path)
    return folder_name(path.parent) if path.stem.lower() in SAY_NOTHING else path.stem


def folder_name(folder: Path) -> str:
    """Return the name of the run in a folder."""
    is_checkpoint = folder.name.startswith("checkpoint-") and NUMBERED.fullmatch(folder.name)
    if is_checkpoint or folder.name.lower() in FOLDERS_OF_LOGS:
        return folder.parent.name or "imported"
    if NUMBERED.fullmatch(folder.name):
        return f"{folder.parent.name}-{folder.name}".strip("-")
    return folder.name or "imported"
