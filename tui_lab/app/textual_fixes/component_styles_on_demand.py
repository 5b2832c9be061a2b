"""Textual 8.2.8: styles of all parts of a widget are looked up whenever the widget gets its own.

A table has nine parts, such as the header, and a list of options six; a scroll bar or a field has others. Most of them
are never painted, or only much later. While the lab opens that took an eighth of the time. Here the styles of a part
are looked up when it is painted.
"""

from typing import Any

from textual.css.styles import RenderStyles
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode


class PartStyles(dict[str, RenderStyles]):
    """The styles of a widget's parts by component class, each looked up on first use."""

    def __init__(self, sheet: Stylesheet, node: DOMNode) -> None:
        super().__init__()
        self._sheet = sheet
        self._node = node
        self._classes = node._get_component_classes()

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def __missing__(self, name: str) -> RenderStyles:
        if name not in self._classes:
            raise KeyError(name)
        part = DOMNode(classes=name)
        part._attach(self._node)
        self._sheet.apply(part, animate=False)
        self[name] = part.styles
        return part.styles


class SheetWithPartsOnDemand(Stylesheet):
    def _process_component_classes(self, node: DOMNode) -> None:
        if not node._get_component_classes():
            return
        used: dict[str, Any] = node._component_styles
        node._component_styles = PartStyles(self, node)
        if any(node._component_styles[name] != styles for name, styles in used.items()):
            node.refresh()
