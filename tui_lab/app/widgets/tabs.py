"""The panes' numbers and names, where only one pane is shown."""

from textual.events import Click
from textual.widgets import Static

from tui_lab.app.actions import COMMANDS

PANES = [(int(command.id[-1]), command.title) for command in COMMANDS if command.id.startswith("pane_")]
GAP = " "


class PaneTabs(Static):
    def mark(self, active: int) -> None:
        self.update(GAP.join(f"[reverse] {n} {t} [/]" if n == active else f" {n} {t} " for n, t in PANES))

    def on_click(self, event: Click) -> None:
        at = 0
        for number, title in PANES:
            at += len(f" {number} {title} {GAP}")
            if event.x < at:
                self.call_later(self.screen.run_action, f"do('pane_{number}')")
                return
