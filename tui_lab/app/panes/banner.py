"""The line above the panes of a run with planted faults."""

from textual.widgets import Static

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of
from tui_lab.core.config.schema import Config
from tui_lab.util.plural import counted


class Banner(Static):
    """Hidden for a run without planted faults."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.display = False

    def show(self, config: Config, *, diagnosed: bool) -> None:
        """Name the planted faults once the doctor has looked for them: finding them is the lesson."""
        n_faults = len(config.faults)
        text = counted(n_faults, "planted mistake")
        if diagnosed:
            text += f": {', '.join(config.faults)}"
        elif key := keymap_of(self.app).key_of(BY_ID["diagnose"]):
            text += f" · {key} diagnoses"
        self.update(text)
        self.display = bool(n_faults)
