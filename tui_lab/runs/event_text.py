"""Events as lines of text."""

import re
from collections.abc import Mapping

from tui_lab.core import events as ev
from tui_lab.runs.nonfinite_text import origin_lines
from tui_lab.runs.numbers import percent, short_number
from tui_lab.util.errors import shortened
from tui_lab.util.plural import counted

_EVENT_LINE = re.compile(
    r"step [\d,]+: (loss \S+, lr |validation loss |warning: |[a-z_]+\.[a-z_0-9]+ .* → )|[\d,]+ parameters, "
)
"""The beginning of a line of `step_text` or `event_text`; those of logged values are of scripts only."""


def is_event_line(line: str) -> bool:
    """Return whether a line printed by `tui-lab run` is that of an event."""
    return _EVENT_LINE.match(line) is not None


def step_text(event: ev.StepDone) -> str:
    loss, lr = short_number(event.loss), short_number(event.lr)
    return f"step {event.step:,}: loss {loss}, lr {lr}, {event.tokens_per_s:,.0f} tokens/s"


def event_text(event: ev.Event) -> str | None:
    """Return the line for an event that people want to read; None for the others, such as a step."""
    match event:
        case ev.Started():
            return _started_text(event)
        case ev.Evaluated():
            metric = ""
            if event.exact_match is not None:
                metric = f", exact match {percent(event.exact_match)}"
            elif event.perplexity is not None:
                metric = f", perplexity {short_number(event.perplexity)}"
            best = " (best)" if event.best else ""
            return f"step {event.step:,}: validation loss {short_number(event.val_loss)}{metric}{best}"
        case ev.Changed():
            return f"step {event.step:,}: {event.key} {event.old} → {event.new}"
        case ev.Logged():
            return f"step {event.step:,}: {logged_text(event.values, event.texts)}"
        case ev.NonFinite():
            return f"step {event.failed_step:,}: " + "\n".join(origin_lines(event.origin))
        case ev.Warned() | ev.SaveFailed():
            return f"step {event.step:,}: warning: {event.message}"
        case _:
            return None


def failure_text(event: ev.Failed) -> str:
    """Return how a run failed, with the traceback in lines of its own."""
    return f"failed after step {event.step:,}: {event.message}\n{event.details}".rstrip()


def logged_text(values: Mapping[str, float], texts: Mapping[str, str]) -> str:
    """Return logged values and texts in one line; a long text is cut."""
    parts = [f"{name} {value:.6g}" for name, value in values.items()]
    parts += [f"{name}: {shortened(' '.join(text.split()))}" for name, text in texts.items()]
    return ", ".join(parts)


def _started_text(event: ev.Started) -> str:
    """Return the line of a start; of a script, what is not known is left out. Of an imported run, nothing is known."""
    if not event.threads:
        return "imported from a log"
    parts = [f"{event.parameters:,} parameters"]
    if event.n_vocab:
        parts.append(f"vocabulary {event.n_vocab:,}")
    if event.train_examples or event.val_examples:
        parts.append(f"{event.train_examples:,} training and {event.val_examples:,} validation examples")
    parts += [event.device, counted(event.threads, "thread")]
    if event.resumed:
        parts.append(f"resumed at step {event.step:,}")
    faults = f"; planted faults: {', '.join(event.faults)}" if event.faults else ""
    return ", ".join(parts) + faults
