"""Textual 8.2.8: the first dialog of each kind parses the style sheets of all widgets again.

A screen with styles of its own makes the app parse all sources into a new sheet, whose cache is empty. Rules depend on
nothing but their source and the variables of the theme, so they are kept.
"""

from typing import Any

from textual.app import App
from textual.cache import LRUCache
from textual.css.model import RuleSet
from textual.css.types import CSSLocation

from tui_lab.app.textual_fixes.component_styles_on_demand import SheetWithPartsOnDemand

_Parsed = dict[tuple[Any, ...], list[RuleSet]]
_parsed_by_theme: LRUCache[tuple[tuple[str, str], ...], _Parsed] = LRUCache(8)


class SheetThatKeepsRules(SheetWithPartsOnDemand):
    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._parsed = _rules_of(variables)

    def set_variables(self, variables: dict[str, str]) -> None:
        super().set_variables(variables)
        self._parsed = _rules_of(variables)

    def reparse(self) -> None:
        self.parse()  # Leaves the rules as they are if a source has an error.

    def _parse_rules(
        self, css: str, read_from: CSSLocation, is_default_rules: bool = False, tie_breaker: int = 0, scope: str = ""
    ) -> list[RuleSet]:
        source = (css, read_from, is_default_rules, tie_breaker, scope)
        rules = self._parsed.get(source)
        if rules is None:
            rules = super()._parse_rules(css, read_from, is_default_rules, tie_breaker, scope)
            self._parsed[source] = rules
        return rules


def _rules_of(variables: dict[str, str]) -> _Parsed:
    theme = tuple(variables.items())
    parsed = _parsed_by_theme.get(theme)
    if parsed is None:
        parsed = {}
        _parsed_by_theme.set(theme, parsed)
    return parsed


class KeepParsedRules(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.stylesheet = SheetThatKeepsRules(variables=self.get_css_variables())
