"""What the doctor's findings lead to: a change while it trains, or a new run without the mistake."""

from textual.message import Message

from tui_lab.app.actions import applies
from tui_lab.app.panes.config import ConfigPane
from tui_lab.app.panes.doctor import DoctorPane
from tui_lab.app.screens.steering import Steering
from tui_lab.app.session.doctor_thread import CheckUp
from tui_lab.core import commands as cmd
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.fixes import mended


class Mending(Steering):
    """A screen with a config pane, which holds what stands edited, and a doctor."""

    checkup: CheckUp
    _config: ConfigPane

    class Again(Message, namespace="lab_screen"):
        """Begin anew with an edited config, or fork from a run with it."""

        def __init__(self, lab: "Mending", name: str, config: Config, fork: bool, examine: bool = False) -> None:
            super().__init__()
            self.lab, self.name, self.config, self.fork, self.examine = lab, name, config, fork, examine

    def do_examine(self) -> None:
        edited = self._config.edited
        if edited is None:
            return
        self.go_to_doctor()
        if self.checkup.busy:
            self.notify("the doctor is at it already")
        self.checkup.ask(edited)

    def on_doctor_pane_apply(self, message: DoctorPane.Apply) -> None:
        edited = self._config.edited
        config = None if edited is None else mended(edited, message.finding)
        if edited is None or config is None:
            self.notify(f"no setting mends this. {message.finding.fix}", severity="warning")
        else:
            self._change_to(edited, config)

    def on_doctor_pane_pin(self, message: DoctorPane.Pin) -> None:
        from tui_lab.core.training.reproducibility import pinned

        edited = self._config.edited
        if edited is not None and (config := pinned(edited, message.sources)) != edited:
            self._change_to(edited, config)
        else:
            self.notify("everything that a setting can pin is pinned")

    def _change_to(self, edited: Config, config: Config) -> None:
        """Live changes at the next step; any other begins a new run, which is examined."""
        changes = {
            key: settings.get(config, key)
            for key in settings.fields()
            if settings.get(config, key) != settings.get(edited, key)
        }
        if all(map(settings.is_live, changes)) and applies("live", phase=self.state.phase, replayed=self.replayed):
            for key, value in changes.items():
                self.source.send(cmd.Set(key, value))
            self.checkup.ask(config)
        elif self.state.ready is not None:
            self.post_message(self.Again(self, self.state.ready.name, config, fork=False, examine=True))

    def go_to_doctor(self) -> None:
        raise NotImplementedError
