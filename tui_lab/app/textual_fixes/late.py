"""What comes too late, and would end the app under Textual 8.2.8.

- A screen or a pane that is taken away still looks for its parts: it is given none any more, but is mounted, and its
  workers run, all the same.
- A press of the mouse is handled when the terminal has become smaller: what is there is looked up, and nothing is.
"""

from textual import events
from textual._context import active_message_pump
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.geometry import Region
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


def beside(event: events.Event, screen: Region) -> bool:
    """Whether this is of the mouse and outside of the screen; a release counts anywhere, since it ends a drag."""
    if isinstance(event, events.MouseEvent) and not isinstance(event, events.MouseUp):
        return not screen.contains_point((event.screen_x, event.screen_y))
    return False
