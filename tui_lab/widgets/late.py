"""What a screen or a pane still looks for while it is taken away: it misses parts of itself, and nobody misses it.

Textual 8.2.8 gives nothing that is being taken away any more parts, but mounts it and runs its workers all the same.
"""

from textual._context import active_message_pump
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.worker import WorkerFailed, get_current_worker


def too_late(error: Exception) -> bool:
    """Whether the error, being handled now, is that one part of what is taken away does not find another."""
    if isinstance(error, WorkerFailed):
        return isinstance(error.error, NoMatches) and goes(get_current_worker().node)
    node = active_message_pump.get()
    return isinstance(error, NoMatches) and isinstance(node, DOMNode) and goes(node)


def goes(node: DOMNode) -> bool:
    """Whether a node is taken away, or has been, by itself or with what it is in."""
    return not node.is_attached or any(each._pruning for each in node.ancestors_with_self)
