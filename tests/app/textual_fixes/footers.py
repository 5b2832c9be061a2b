"""An app with a footer of a given type."""

import asyncio
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.pilot import Pilot
from textual.widgets import Button, Footer
from textual.widgets._footer import FooterKey


class ButtonWithKeys(Button):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("o", "other", "Other"), Binding("h", "other", show=False)]

    def action_other(self) -> None: ...


class AppWithFooter(App[None]):
    """Tab goes from two plain buttons to one with keys of its own."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("g", "go", "Go")]
    allowed: bool | None = True

    def __init__(self, footer_type: type[Footer]) -> None:
        super().__init__()
        self._footer_type = footer_type

    def compose(self) -> ComposeResult:
        yield Button(id="one")
        yield Button(id="two")
        yield ButtonWithKeys(id="other")
        yield self._footer_type()

    def action_go(self) -> None: ...

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.allowed if action == "go" else True


async def footer_keys(pilot: Pilot[None]) -> list[FooterKey]:
    """Return the keys shown once the screen has been painted, which is when they follow."""
    painted = asyncio.Event()
    await pilot.pause()
    pilot.app.screen.query_one(Footer).call_after_refresh(painted.set)
    await painted.wait()
    return list(pilot.app.screen.query(FooterKey))


def names(keys: list[FooterKey]) -> set[str]:
    """What the keys are called, apart from the command palette's."""
    return {key.description for key in keys} - {"palette"}
