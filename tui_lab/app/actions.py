"""Registry of the lab screen's commands, used for key bindings, footer, command palette and help."""

from dataclasses import dataclass
from typing import Literal

from tui_lab.app.key_names import key_label
from tui_lab.app.session.source import Role
from tui_lab.core.config.script import ImportedConfig, RunConfig, ScriptConfig

Needs = Literal["nothing", "run", "pausing", "steering", "live", "replay", "resumable"]
"""When a command is enabled. run: a run that is open, or may still open; steering: a run or replay in progress;
pausing: also while the run is opened; live: a run in progress that takes commands; replay: a replay;
resumable: a replay, or a run of another process that has ended."""


@dataclass(frozen=True)
class Command:
    """A command of the lab screen, run by `LabActions`.

    keys: Textual's names, separated by commas; empty for one that only the palette has. footer: the label in the
    footer; not shown there if empty. not_for_scripts: why the run of a script has no such command; empty if it has.
    """

    id: str
    keys: str
    title: str
    help: str
    group: str
    needs: Needs = "nothing"
    footer: str = ""
    not_for_scripts: str = ""


NO_DROPOUT = "The script's model has no dropout layers."
NO_OPTIMIZER = "The script changes its weights without a torch optimizer; change the rate in the script."
TRAINS_APART = "The script's processes train separate models, and only one of them would change."
ITS_DATA = "The script makes its own batches; change this in the script."
ITS_MODEL = "Only the script can build its model and its data; start the script again instead."
NO_MODEL = "This run was imported from a log: it has losses, but no model, weights or examples."
NEED_MODEL = ("generate", "diagnose", "attention", "examples", "restart", "fork", "resume", "find_rate", "overfit")
"""Commands that an imported run does not have."""
CHANGES = ("lr_down", "lr_up", "dropout_down", "dropout_up", "undo")
"""Commands that change a live setting of a script."""
ONLY_THE_SCRIPT = "Only the script can continue this run; start the script again."

COMMANDS: tuple[Command, ...] = (
    Command("pause", "space", "Pause/resume", "Pause after this step, or resume.", "Run", "pausing", "Pause"),
    Command("step", "s", "Step", "Run one step, then pause.", "Run", "steering", "Step"),
    Command("ten_steps", "S", "Ten steps", "Run ten steps, then pause.", "Run", "steering"),
    Command("evaluate", "e", "Evaluate", "Measure the validation loss now.", "Run", "live",
            not_for_scripts="The script decides when it evaluates, and on which data."),
    Command("checkpoint", "c", "Save checkpoint", "Save a checkpoint now, which is kept.", "Run", "live"),
    Command("restart", "r", "Restart", "Start a new run with the edited settings; the old run is kept.", "Run",
            "run", not_for_scripts=ITS_MODEL),
    Command("fork", "f", "Fork", "Start a new run from a checkpoint, with the edited settings.", "Run",
            "run", not_for_scripts=ITS_MODEL),
    Command("slower", "less_than_sign", "Play slower", "Play the replay slower.", "Run", "replay"),
    Command("faster", "greater_than_sign", "Play faster", "Play the replay faster.", "Run", "replay"),
    Command("seek_back", "left_parenthesis", "Back", "Go back by a twentieth of the replay.", "Run", "replay"),
    Command("seek_forward", "right_parenthesis", "Forward", "Go forward by a twentieth of the replay.", "Run",
            "replay"),
    Command("resume", "c", "Resume the run", "Resume this run from its last checkpoint.", "Run", "resumable",
            not_for_scripts=ONLY_THE_SCRIPT),
    Command("lr_down", "H", "Halve lr", "Halve the learning rate.", "Live changes", "live", "lr÷2"),
    Command("lr_up", "L", "Double lr", "Double the learning rate.", "Live changes", "live", "lr×2"),
    Command("dropout_down", "d", "Less dropout", "Lower dropout by 0.05.", "Live changes", "live"),
    Command("dropout_up", "D", "More dropout", "Raise dropout by 0.05.", "Live changes", "live"),
    Command("batch_down", "b", "Halve batch", "Halve the batch size.", "Live changes", "live",
            not_for_scripts=ITS_DATA),
    Command("batch_up", "B", "Double batch", "Double the batch size.", "Live changes", "live",
            not_for_scripts=ITS_DATA),
    Command("overfit", "o", "Overfit one", "Train on one example only, or on all again.", "Live changes", "live",
            "Overfit", not_for_scripts=ITS_DATA),
    Command("shuffle", "", "Shuffle mode", "Switch the shuffle mode: epoch, once, off.", "Live changes", "live",
            not_for_scripts=ITS_DATA),
    Command("undo", "u", "Undo", "Revert the last live change.", "Live changes", "live"),
    Command("generate", "g", "Generate", "Generate text from the prompt.", "View", "run", footer="Generate"),
    Command("pane_1", "1", "Config", "Go to the settings.", "View"),
    Command("pane_2", "2", "Loss", "Go to the loss curves.", "View"),
    Command("pane_3", "3", "Batch", "Go to the examples of a step.", "View"),
    Command("pane_4", "4", "Generation", "Go to the prompt and the replies.", "View"),
    Command("pane_5", "5", "Events", "Go to the log.", "View"),
    Command("pane_6", "6", "Doctor", "Go to the doctor's findings.", "View"),
    Command("pane_7", "7", "System", "Go to processor, memory and GPU.", "View"),
    Command("diagnose", "K", "Diagnose", "Check the edited settings for bugs; run a script again for some updates.",
            "View", "run", footer="Diagnose"),
    Command("attention", "A", "Attention", "Show the attention of every head for the example in the batch pane.",
            "View", "run"),
    Command("examples", "E", "Examples", "Show the hardest examples, duplicates, and where the loss lies.", "View",
            "run"),
    Command("find_rate", "F", "Find a learning rate", "Train for a moment while the rate rises: with the edited "
            "settings, or a script again.", "View", "run"),
    Command("inside", "I", "Look inside", "Logit lens, ablations and norms for the example in the batch pane, and "
            "each layer over time.", "View", "run"),
    Command("zoom", "z", "Zoom", "Show only this pane, or all panes.", "View"),
    Command("copy", "y", "Copy", "Copy the answer, setting, example, finding, values at the cursor, or log.", "View"),
    Command("layout", "Z", "Next layout", "Go to the next layout: overview, curves, data, text.", "View"),
    Command("save_config", "ctrl+s", "Save settings", "Save the edited settings to a TOML file.", "App",
            "run", not_for_scripts="These are the settings of the script, not of a config for tui-lab."),
    Command("theme", "t", "Theme", "Switch the theme: dark, light, high contrast.", "App"),
    Command("help", "question_mark", "Help", "Show help for this pane, all keys, and a glossary.", "App",
            footer="Help"),
    Command("runs", "R", "Runs", "List all runs: sort, filter, tag, compare.", "App"),
    Command("home", "w", "Home", "Go back to the list of presets and runs.", "App"),
    Command("quit", "q", "Quit", "Quit; asks before it stops a run.", "App", footer="Quit"),
)  # fmt: skip

BY_ID = {command.id: command for command in COMMANDS}


def key_of(command: Command) -> str:
    """Return the first key as the app shows it; empty if there is none."""
    return key_label(command.keys.partition(",")[0]) if command.keys else ""


def why_not(command_id: str, config: RunConfig | None) -> str:
    """Return why the run of a script or an imported one does not have a command; empty if it has, and for our own."""
    if isinstance(config, ImportedConfig):
        return NO_MODEL if command_id in NEED_MODEL else BY_ID[command_id].not_for_scripts
    if not isinstance(config, ScriptConfig):
        return ""
    if command_id in CHANGES and config.trains_apart:
        return TRAINS_APART
    if command_id in ("dropout_down", "dropout_up") and config.model.dropout is None:
        return NO_DROPOUT
    if command_id in ("lr_down", "lr_up", "find_rate") and config.optim.is_by_hand:
        return NO_OPTIMIZER
    return BY_ID[command_id].not_for_scripts


def applies(needs: Needs, *, phase: str, role: Role, is_open: bool = True) -> bool:
    """Return whether a command with these needs is enabled now. is_open: whether the run could be opened, or may be."""
    if not is_open:
        return needs == "nothing"
    in_progress = phase not in ("loading", "ended", "failed")
    match needs:
        case "nothing" | "run":
            return True
        case "pausing":
            opening = role in ("training", "steering") and phase == "loading"
            return opening or applies("steering", phase=phase, role=role)
        case "steering":
            # A replay can be paused at its end too: the next key may go back.
            return (in_progress or (role == "replay" and phase != "loading")) and role != "watching"
        case "live":
            return in_progress and role in ("training", "steering")
        case "replay":
            return role == "replay"
        case "resumable":
            return role == "replay" or (role in ("steering", "watching") and phase in ("ended", "failed"))
