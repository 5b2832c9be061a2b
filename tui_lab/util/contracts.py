"""The versions of what others may rely on; docs/contracts.md says what each one promises."""

RUN_FOLDER = 1
"""Run folders: the names, places and formats of their files, events.jsonl apart. 0: before there was a version."""
EVENTS = 1
"""The lines of events.jsonl, which `run --json` prints."""
CONFIG = 1
"""The keys of a config."""
JSON = 1
"""What `--json` prints."""
EXIT_CODES = 1
PYTHON = 1
"""`tui_lab`: its names, their parameters and what they return."""
PLUGINS = 1
"""`tui_lab.plugins` and the groups of entry points."""

VERSIONS = {
    "run folder": RUN_FOLDER,
    "events.jsonl": EVENTS,
    "config": CONFIG,
    "--json": JSON,
    "exit codes": EXIT_CODES,
    "Python": PYTHON,
    "plug-ins": PLUGINS,
}
