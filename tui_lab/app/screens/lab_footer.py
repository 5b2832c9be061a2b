"""The last line of the lab: the keys that apply to what its run does now."""

from functools import partial
from typing import TYPE_CHECKING

from textual.widgets import Input

from tui_lab.app.keymap import keymap_of
from tui_lab.app.panes.key_hints import hints_of
from tui_lab.app.screens.footer_keys import Situation, field_items, items
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.footer import FooterItem

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen


class LabFooter:
    """Call `follow` at every tick; the line shows `items` when the bindings of the lab are refreshed."""

    def __init__(self, lab: "LabScreen") -> None:
        self._lab = lab
        self._situation: Situation | None = None

    def follow(self, shown: LabState) -> None:
        """Show the keys that apply after a pause, an edit, or another process took or gave up control.

        shown: what the panes show, which may be a little older than the state of the lab.
        """
        situation = self._situation_of(shown)
        if situation != self._situation:
            self._situation = situation
            self._lab.refresh_bindings()

    def _situation_of(self, shown: LabState) -> Situation:
        lab = self._lab
        playback = lab.source.playback
        paused = shown.phase == "paused" if playback is None else playback.paused
        settings = lab.config_pane.settings
        waits = settings is not None and settings.wait_for_restart
        timeline = None if playback is None else playback.timeline
        is_complete = shown.ending == "done" if timeline is None else timeline.is_done
        is_loading = shown.phase == "loading"
        will_pause = lab.frames.pauses_at_start if is_loading else shown.requested_pause.is_next(shown.phase)
        return Situation(shown.phase, lab.source.role, paused, waits, is_complete, will_pause)

    def items(self) -> list[FooterItem]:
        lab = self._lab
        if isinstance(lab.focused, Input):
            return field_items(hints_of(lab.active_pane.field_hints, lab.focused))
        situation = self._situation or Situation("loading", lab.source.role)
        is_applicable = partial(lab.is_enabled, phase=situation.phase)
        return items(situation, is_applicable, keymap_of(lab.app), lab.app.size.width)
