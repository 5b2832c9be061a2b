"""One registry of what a person can do: it feeds keys, footer, palette and help."""

from dataclasses import dataclass
from typing import Literal

Needs = Literal["nothing", "steering", "training", "live", "replay"]
"""When a command applies. steering: a training or replay that is not over; training: one of ours, over or not;
live: a training that is not over."""


@dataclass(frozen=True)
class Command:
    """id names the screen's method `do_ID`. keys as Textual writes them, several parted by commas."""

    id: str
    keys: str
    title: str
    help: str
    group: str
    needs: Needs = "nothing"
    footer: str = ""
    """What the footer calls it; empty: not there."""
    show_key: str = ""


COMMANDS: tuple[Command, ...] = (
    Command("pause", "space", "Pause/resume", "Hold after this step, or go on.", "Steer", "steering", "Pause"),
    Command("step", "s", "Step", "Make one update, then pause.", "Steer", "steering", "Step"),
    Command("ten_steps", "S", "Ten steps", "Make ten updates, then pause.", "Steer", "steering", show_key="S"),
    Command("evaluate", "e", "Evaluate", "Measure the validation loss now.", "Steer", "live"),
    Command("checkpoint", "c", "Checkpoint", "Save the state now.", "Steer", "live"),
    Command("restart", "r", "Restart", "Start anew with the edited config; the old run is kept.", "Steer", "training"),
    Command("fork", "f", "Fork", "Go on from the last checkpoint as a new run, with the edited config.", "Steer"),
    Command("slower", "less_than_sign", "Slower", "Tell the replay at a lower speed.", "Steer", "replay", show_key="<"),
    Command("faster", "greater_than_sign", "Faster", "Tell the replay at a higher speed.", "Steer", "replay",
            show_key=">"),
    Command("lr_down", "l", "Halve lr", "Half the learning rate from the next step on.", "Change", "live", "lr÷2"),
    Command("lr_up", "L", "Double lr", "Twice the learning rate from the next step on.", "Change", "live", "lr×2",
            show_key="L"),
    Command("dropout_down", "d", "Less dropout", "Dropout down by 0.05.", "Change", "live"),
    Command("dropout_up", "D", "More dropout", "Dropout up by 0.05.", "Change", "live", show_key="D"),
    Command("batch_down", "b", "Half batch", "Half the batch size.", "Change", "live"),
    Command("batch_up", "B", "Double batch", "Twice the batch size.", "Change", "live", show_key="B"),
    Command("overfit", "o", "Overfit one", "Pin one datapoint, or let all in again.", "Change", "live", "Overfit"),
    Command("shuffle", "h", "Shuffle mode", "The next of: epoch, once, off.", "Change", "live"),
    Command("undo", "u", "Undo", "Take the last live change back.", "Change", "live"),
    Command("generate", "g", "Generate", "Let the model go on from the prompt.", "Look", footer="Speak"),
    Command("pane_1", "1", "Config", "Go to the config.", "Look"),
    Command("pane_2", "2", "Loss", "Go to the curves.", "Look"),
    Command("pane_3", "3", "Batch", "Go to the batch inspector.", "Look"),
    Command("pane_4", "4", "Generation", "Go to the generation console.", "Look"),
    Command("pane_5", "5", "Events", "Go to the log of events.", "Look"),
    Command("pane_6", "6", "Doctor", "Go to the doctor.", "Look"),
    Command("examine", "k", "Examine", "Let the doctor look for what is wrong with the edited config.", "Look",
            footer="Check"),
    Command("attention", "A", "Attention", "What every head looks at in the batch pane's example.", "Look",
            show_key="A"),
    Command("zoom", "z", "Zoom", "This pane alone, or all again.", "Look", footer="Zoom"),
    Command("save_config", "ctrl+s", "Save config", "Write the edited config to a TOML file.", "File",
            show_key="ctrl+s"),
    Command("theme", "t", "Theme", "The next of: dark, light, high contrast.", "File"),
    Command("help", "question_mark,f1", "Help", "What has the focus, all keys, and a glossary.", "File", footer="Help",
            show_key="?"),
    Command("runs", "R", "Runs", "All runs: sort, filter, tag, compare.", "File", show_key="R"),
    Command("chooser", "w", "Choose", "Back to the presets and runs; asks what to do with this one.", "File"),
    Command("quit", "q", "Quit", "Leave: stop and save, or stay.", "File", footer="Quit"),
)  # fmt: skip

BY_ID = {command.id: command for command in COMMANDS}


def key_of(command: Command) -> str:
    """The key as a person reads it."""
    return command.show_key or command.keys.partition(",")[0]


def applies(needs: Needs, *, phase: str, replayed: bool) -> bool:
    """Whether a command with these needs can be given now."""
    over = phase in ("ended", "failed")
    match needs:
        case "nothing":
            return True
        case "steering":
            return not over and phase != "loading"
        case "training":
            return not replayed
        case "live":
            return not over and not replayed and phase != "loading"
        case "replay":
            return replayed
