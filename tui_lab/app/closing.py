"""Stop what trains in a lab, save it, and take the lab off the screen."""

import asyncio
from typing import TYPE_CHECKING, Any

from textual.app import App

from tui_lab.app import shutdown
from tui_lab.app.screens.dialogs import Ask, Choice

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.app.session.source import Source

UNSAVED_CHOICES = (
    Choice("save", "Try to save again"),
    Choice("lose", "Discard everything after the last checkpoint"),
)
SECONDS_BEFORE_NOTICE = 2.0
"""Most runs stop sooner; only then does the user learn that the app waits."""


class LabCloser:
    """opened: the labs whose source was started and is not closed yet. grace: seconds a run may take to stop."""

    def __init__(self, app: App[Any], grace: float) -> None:
        self._app = app
        self._grace = grace
        self.opened: list[shutdown.OpenLab] = []

    async def stop_and_save(self, lab: "LabScreen") -> str | None:
        """Wait until a lab's run is saved; return a message for the user if its training does not respond."""
        lab.generation.stop()
        lab.source.close()
        await asyncio.to_thread(lab.doctor.stop)
        seconds = shutdown.grace(lab.state.step_time, self._grace)
        saved = await asyncio.to_thread(lab.source.join, min(SECONDS_BEFORE_NOTICE, seconds))
        lab.tick()  # The last messages say whether the run is open.
        if not saved and shutdown.is_unopened(lab):
            saved = True  # There is nothing to save.
        if not saved:
            lab.notify(f"Waiting up to {seconds:,.0f} s for training to finish its step and save…")
            saved = await asyncio.to_thread(lab.source.join, seconds)
        if lab in self.opened:
            self.opened.remove(lab)
        if not saved:
            return shutdown.abandoned_line(lab.path, seconds)
        await self._ask_while_unsaved(lab.source)
        return None

    async def _ask_while_unsaved(self, source: "Source") -> None:
        """If the last state could not be saved, ask until it is or the user gives it up."""
        from tui_lab.app.session.session import Session

        while isinstance(source, Session) and source.unsaved is not None:
            if await self._app.push_screen_wait(Ask(f"Not saved: {source.unsaved}.", UNSAVED_CHOICES)) == "lose":
                return
            await asyncio.to_thread(source.save_again)

    def remove(self, lab: "LabScreen") -> None:
        """Pop a lab and what was opened over it while it was being saved, and nothing else."""
        while lab in self._app.screen_stack:
            self._app.pop_screen()
