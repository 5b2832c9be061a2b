"""Events as lines of text."""

from tui_lab.core import events as ev


def event_text(event: ev.Event) -> str | None:
    """Return the line for an event that people want to read; None for the others, such as a step."""
    match event:
        case ev.Started():
            resumed = f", resumed at step {event.step:,}" if event.resumed else ""
            faults = f"; planted faults: {', '.join(event.faults)}" if event.faults else ""
            return (
                f"{event.parameters:,} parameters, vocabulary {event.n_vocab:,}, {event.train_examples:,} training and "
                f"{event.val_examples:,} validation examples, {event.device}, {event.threads} threads{resumed}{faults}"
            )
        case ev.Evaluated():
            metric = ""
            if event.exact_match is not None:
                metric = f", exact match {event.exact_match * 100:.6g}%"
            elif event.perplexity is not None:
                metric = f", perplexity {event.perplexity:,.2f}"
            best = " (best)" if event.best else ""
            return f"step {event.step:,}: validation loss {event.val_loss:.4f}{metric}{best}"
        case ev.Changed():
            return f"step {event.step:,}: {event.key} {event.old} → {event.new}"
        case ev.Warned() | ev.SaveFailed():
            return f"step {event.step:,}: warning: {event.message}"
        case _:
            return None
