"""Textual 8.2.8: an event or a worker of a widget that is being removed ends the app.

A screen that is popped while it is being built still gets its events, and its workers still run, but its children are
not mounted any more. A handler that looks for one of them raises NoMatches, and Textual exits. The app ignores
NoMatches from nodes that are being removed; in all other nodes it stays an error.
"""

from textual._context import active_message_pump
from textual.app import App
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.worker import WorkerFailed, get_current_worker


def is_removed(node: DOMNode) -> bool:
    """Return whether a node, or one that it is in, has been removed or is being removed."""
    return not node.is_attached or any(ancestor._pruning for ancestor in node.ancestors_with_self)


def is_from_removed_node(error: Exception) -> bool:
    """Return whether the error being handled is a query in a node that is being removed."""
    if isinstance(error, WorkerFailed):
        return isinstance(error.error, NoMatches) and is_removed(get_current_worker().node)
    node = active_message_pump.get()
    return isinstance(error, NoMatches) and isinstance(node, DOMNode) and is_removed(node)


class IgnoreErrorsOfRemovedNodes(App[None]):
    def _handle_exception(self, error: Exception) -> None:
        if not is_from_removed_node(error):
            super()._handle_exception(error)
