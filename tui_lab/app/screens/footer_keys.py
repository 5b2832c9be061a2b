"""Which keys the last line of the lab shows: those that one would press now, as many as fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import Keymap
from tui_lab.app.panes.key_hints import Hint
from tui_lab.app.session.source import Role
from tui_lab.app.widgets.footer import FooterItem

Labels = Sequence[tuple[str, str]]
"""Ids of commands with what the line says about them; those with an empty text share that of the next."""
ALWAYS: Labels = (("help", "Help"), ("quit", "Quit"))
LR: Labels = (("lr_down", "lr÷2"), ("lr_up", "lr×2"))
LOOKS: Labels = (("generate", "Generate"), ("diagnose", "Diagnose"))
REPLAY: Labels = (
    ("step", "Step"),
    ("slower", ""),
    ("faster", "Speed"),
    ("seek_back", ""),
    ("seek_forward", "Seek"),
    ("resume", "Resume"),
    ("fork", "Fork"),
    ("generate", "Generate"),
    *ALWAYS,
)
ENDED: Labels = (
    ("resume", "Resume"),
    ("restart", "Again"),
    ("fork", "Train on"),
    *LOOKS,
    ("runs", "Compare"),
    ("home", "Home"),
    *ALWAYS,
)
FAILED: Labels = (
    ("resume", "Resume"),
    ("diagnose", "Diagnose"),
    ("restart", "Again"),
    ("pane_5", "Events"),
    ("home", "Home"),
    *ALWAYS,
)


@dataclass(frozen=True)
class Situation:
    """waits: whether an edited setting waits for a restart. paused: of the run, or of the replay.

    will_pause: whether it pauses as soon as it can.

    is_complete: whether the run has made all its steps, so that it cannot be resumed.
    """

    phase: str
    role: Role
    paused: bool = False
    waits: bool = False
    is_complete: bool = False
    will_pause: bool = False


def commands(now: Situation) -> Labels:
    """Return the commands to show, the most useful first, whether or not the run has them."""
    pause = ("pause", _pause_label(now))
    match now.phase:
        case "loading":
            return (pause, ("home", "Home"), *ALWAYS)
        case _ if now.role == "replay":
            at_end = now.phase in ("ended", "failed")
            with_edits = (("restart", "Restart"), ("fork", "Fork")) if now.waits else ()
            pause = (pause[0], "Play again") if at_end else pause
            labels = (pause, *with_edits, *(label for label in REPLAY if label not in with_edits))
            left_out = {"step"} if at_end else set()
            left_out |= {"resume"} if now.is_complete else set()
            return tuple(label for label in labels if label[0] not in left_out)
        case "failed":
            return FAILED
        case "ended":
            return tuple(label for label in ENDED if not (now.is_complete and label[0] == "resume"))
    begin = (pause, ("step", "Step"))
    if now.phase == "waiting":  # What can be changed, and whether there is a model, is not known yet.
        return (*begin, ("pane_5", "Output"), ("home", "Home"), *ALWAYS)
    if now.waits:
        return (*begin, ("restart", "Restart"), ("fork", "Fork"), *LR, ("generate", "Generate"), *ALWAYS)
    return (*begin, *LR, ("overfit", "Overfit"), *LOOKS, *ALWAYS)


def _pause_label(now: Situation) -> str:
    if now.will_pause:
        return "Cancel pause"
    if not now.paused:
        return "Pause"
    return "Play" if now.role == "replay" else "Resume"


def items(now: Situation, applies: Callable[[str], bool], keymap: Keymap, width: int) -> list[FooterItem]:
    """Return the commands that apply, with their keys; if not all fit into `width`, the less useful are left out."""
    shown = [
        FooterItem(keymap.name_of(BY_ID[id]), keymap.key_of(BY_ID[id]), label)
        for id, label in commands(now)
        if applies(id) and keymap.key_of(BY_ID[id])
    ]
    while len(shown) > len(ALWAYS) and sum(item.width for item in shown) > width:
        del shown[-len(ALWAYS) - 1]
    return shown


def field_items(hints: Sequence[Hint]) -> list[FooterItem]:
    """Return the keys that do something in a field; letters are typed."""
    return [FooterItem(key.name, key.shown, hint.text) for hint in hints for key in hint.keys]
