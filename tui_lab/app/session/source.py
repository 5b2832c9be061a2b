"""What the lab's panes get their data from: a run of this app, a run of another process, or a replay."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from tui_lab.core import commands as cmd

# At runtime it would import numpy, which Home does not wait for.
if TYPE_CHECKING:
    from tui_lab.app.session.messages import SessionMessage

Role = Literal["training", "steering", "watching", "replay"]
"""What a source is to the app.

training: a model trains in this process, and must be saved before the lab closes. steering: another process trains, and
takes commands. watching: another process trains, and takes none. replay: a recorded run is played back.
"""


@dataclass(frozen=True)
class Timeline:
    """What a replay can go to. end: the last step; the others: the steps at which there were some.

    checkpoints: those that are still on disk.
    """

    end: int = 0
    changes: tuple[int, ...] = ()
    evaluations: tuple[int, ...] = ()
    checkpoints: tuple[int, ...] = ()
    is_done: bool = False
    """Whether the run has made all its steps, so that it cannot be resumed as it is."""


class Playback(Protocol):
    """The position, speed and pause of a replay."""

    @property
    def paused(self) -> bool: ...

    @property
    def speed(self) -> float: ...

    @property
    def position(self) -> int:
        """The step up to which the run was played."""
        ...

    @property
    def timeline(self) -> Timeline | None:
        """None until the log is read."""
        ...

    def seek(self, step: int) -> None:
        """Go to a step: show what the run did until then, and play on from there."""
        ...

    def change_speed(self, by: int) -> None:
        """Play at the speed `by` places further in the list of speeds."""
        ...


class Source(Protocol):
    """Take commands and give messages; the app calls every method from its own thread."""

    @property
    def role(self) -> Role: ...

    @property
    def playback(self) -> Playback | None:
        """The controls of a replay; None if the events come at their own pace."""
        ...

    @property
    def pid(self) -> int | None:
        """The process that trains the run now, if it is on this machine."""
        ...

    def status_note(self) -> str:
        """Return what the status line adds about the source; may be empty."""
        ...

    def start(self) -> None: ...

    def send(self, command: cmd.Command) -> None: ...

    def drain(self) -> list["SessionMessage"]:
        """Return the messages since the last call, in order."""
        ...

    def close(self) -> None:
        """Stop and save; return at once."""
        ...

    def join(self, seconds: float | None = None) -> bool:
        """Wait until everything is saved, at most `seconds`; return whether it is."""
        ...
