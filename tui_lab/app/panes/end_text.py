"""What came out of a run that has ended, and what to do next."""

from collections.abc import Callable, Sequence

from rich.text import Text

from tui_lab.app.actions import BY_ID, Command, key_of
from tui_lab.app.panes.key_hints import BETWEEN
from tui_lab.app.session.state import LabState
from tui_lab.runs.names import state_name
from tui_lab.runs.numbers import percent, short_number
from tui_lab.util.escape import printable

AFTER_END = {
    "resume": "resume",
    "restart": "again",
    "fork": "train on",
    "generate": "generate",
    "runs": "compare",
    "home": "Home",
}
"""Commands that are offered after the end of a run, with what they do, the most useful first."""
AFTER_FAILURE = {"resume": "resume", "diagnose": "diagnose", "pane_5": "see Events", "restart": "again", "home": "Home"}
"""After an error."""
MOST_OF_A_MESSAGE = 60
"""Characters of an error that are shown; the events pane has all of it."""
FEWEST_KEYS = 2
"""Keys that are shown in a narrow terminal before a result is."""


def offered(state: LabState, applies: Callable[[str], bool]) -> dict[str, str]:
    """Return the commands that make sense after the end and apply, with what they do."""
    commands = AFTER_FAILURE if state.phase == "failed" else AFTER_END
    left_out = ["generate"] if state.is_script else []
    left_out += ["resume"] if state.ending == "done" else []  # All steps are made.
    return {id: does for id, does in commands.items() if id not in left_out and applies(id)}


def end_text(state: LabState, commands: dict[str, str], width: int, key_of: Callable[[Command], str] = key_of) -> Text:
    """Return how the run ended, its results, and the keys of `commands`; what does not fit is left out."""
    sign = "✗" if state.phase == "failed" else "■"
    results = [] if state.phase == "failed" else results_of(state)
    text = Text(f" {sign} {_ending(state)}", "bold", no_wrap=True, overflow="ellipsis")
    keys = [(key_of(BY_ID[id]), does) for id, does in commands.items()]
    room = width - text.cell_len - 1
    kept: list[str] = []
    for result in results:
        least = _length([*kept, result, *(f"{key} {does}" for key, does in keys[:FEWEST_KEYS])])
        if least <= room:
            kept.append(result)
    for result in kept:
        text.append(f"{BETWEEN}{result}")
    for key, does in keys:
        if text.cell_len + len(f"{BETWEEN}{key} {does}") >= width:
            break
        text.append(BETWEEN).append(key, "bold cyan").append(f" {does}")
    return text


def results_of(state: LabState) -> list[str]:
    """Return the results of a run: the validation loss, or the loss if nothing was evaluated, and the task's metric."""
    best = state.best
    last = state.evaluated
    if best is None or last is None:
        if state.last is None:
            return []
        return [f"loss {short_number(state.last.loss)}, mean {short_number(state.last.loss_ema)}"]
    if state.restored is not None:
        parts = [f"val {short_number(best.val_loss)} (best, step {best.step:,}, restored)"]
        last = best
    elif last.best:
        parts = [f"val {short_number(best.val_loss)} (best, step {best.step:,})"]
    else:
        parts = [f"val {short_number(last.val_loss)}", f"best {short_number(best.val_loss)}, step {best.step:,}"]
    if last.exact_match is not None:
        parts.append(f"exact match {percent(last.exact_match)}")
    if last.perplexity is not None:
        parts.append(f"perplexity {short_number(last.perplexity)}")
    return parts


def _ending(state: LabState) -> str:
    """Return how the run ended, on one line."""
    if state.phase == "failed":
        message = printable(state.ending.partition("\n")[0])
        shown = message if len(message) <= MOST_OF_A_MESSAGE else f"{message[: MOST_OF_A_MESSAGE - 1]}…"
        return f"failed: {shown}"
    return state_name(state.ending)


def _length(parts: Sequence[str]) -> int:
    return sum(len(BETWEEN) + len(part) for part in parts)
