"""Closing the lab, with the question what becomes of a run that is still training."""

from typing import TYPE_CHECKING, Literal

from tui_lab.app.screens.dialogs import AskToClose, Choice
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen

Destination = Literal["quit", "home"]
"""Where to go when the lab closes: out of the app, or to the start screen."""
CLOSE_CHOICES: dict[Destination, tuple[Choice, ...]] = {
    "quit": (
        Choice("stop", "Stop and save"),
        Choice("finish", "Finish training, then quit"),
        Choice("cancel", "Cancel"),
    ),
    "home": (
        Choice("stop", "Stop and save"),
        Choice("finish", "Finish training, then go Home"),
        Choice("cancel", "Cancel"),
    ),
}
DETACH_CHOICES = (
    Choice("detach", "Keep training, and detach"),
    Choice("stop", "Stop it and save"),
    Choice("cancel", "Cancel"),
)
OPENING_DETACH_CHOICES = (
    Choice("detach", "Keep the process running, and detach"),
    Choice("stop", "Stop it"),
    Choice("cancel", "Cancel"),
)
"""For a run of which nothing is known yet."""
PAUSED_DETACH_CHOICES = (
    Choice("resume", "Resume training, and detach"),
    Choice("detach", "Leave it paused, and detach"),
    *DETACH_CHOICES[1:],
)
WILL_PAUSE_DETACH_CHOICES = (
    Choice("resume", "Keep training, and detach"),
    Choice("detach", "Let it pause, and detach"),
    *DETACH_CHOICES[1:],
)
"""For a run that was asked to pause and has not paused yet: nobody would resume it."""


class CloseControls:
    """Close a lab screen."""

    def __init__(self, lab: "LabScreen") -> None:
        self._lab = lab

    def close(self, destination: Destination) -> None:
        """Close the lab, after a question if the run is still training."""
        lab = self._lab
        is_opening = lab.source.role == "training" and lab.state.phase == "loading"  # Nothing was trained here yet.
        if lab.state.over or is_opening or self._is_unused or lab.source.role in ("watching", "replay"):
            lab.post_message(lab.Close(lab, destination))
            return

        def detach(answer: str | None) -> None:
            if answer == "stop":
                lab.source.send(cmd.Stop())
                lab.stopping = True
                lab.close_when_done = destination
            elif answer in ("detach", "resume"):
                if answer == "resume":
                    lab.steer(cmd.Resume())
                    lab.resumed_to_detach = True
                lab.state.requested_pause.outlives_app = True
                lab.post_message(lab.Close(lab, destination))

        def close(answer: str | None) -> None:
            if answer == "stop":
                lab.post_message(lab.Close(lab, destination))
            elif answer == "finish":
                lab.close_when_done = destination
                if lab.state.phase == "paused" or lab.state.requested_pause.is_ahead(lab.state.phase):
                    lab.steer(cmd.Resume())

        if lab.source.role == "steering":
            choices = detach_choices(lab.state)
            lab.app.push_screen(AskToClose(self._question, choices), detach)
        else:
            lab.app.push_screen(AskToClose(self._question, CLOSE_CHOICES[destination]), close)

    @property
    def _is_unused(self) -> bool:
        """Whether the run waits before its first step, and is not kept without one: there is nothing to lose."""
        from tui_lab.app.session.session import Session

        lab = self._lab
        is_before = lab.state.phase == "paused" and lab.state.step == 0
        return is_before and isinstance(lab.source, Session) and lab.source.removes_unused

    def _question(self) -> str | None:
        """Return what is said of the run now; None if it has ended."""
        lab = self._lab
        if lab.state.over:
            return None
        return self._followed_question() if lab.source.role == "steering" else _own_question(lab.state)

    def _followed_question(self) -> str:
        """Return what is said of a run of another process when the app leaves it."""
        lab = self._lab
        trainer = "The script" if lab.state.is_script else "The process that trains this run"
        if lab.stopping:
            return f"{trainer} has not stopped yet."
        if lab.state.phase == "paused":
            return f"{trainer} is paused."
        if lab.state.requested_pause.is_ahead(lab.state.phase):
            when = "after its first step" if lab.state.phase == "waiting" else "soon"
            return f"{trainer} was asked to pause, and pauses {when}."
        if lab.state.phase == "loading":
            return "This run is still being opened. It belongs to another process."
        if lab.state.phase == "waiting":
            return "The script is starting: it has not made an optimizer step yet."
        if lab.state.step_time.is_compiling:
            return "Another process is compiling the model of this run."
        return "The script is still training." if lab.state.is_script else "Another process is training this run."


def _own_question(state: LabState) -> str:
    """Return what is said of a run of this process when the app leaves it."""
    if state.phase == "paused":
        return "Training is paused."
    return "The model is being compiled." if state.step_time.is_compiling else "Training is still running."


def detach_choices(state: LabState) -> tuple[Choice, ...]:
    """Return what can be done with the process that trains when the app leaves it."""
    choices: tuple[Choice, ...]
    if state.phase == "paused":
        choices = PAUSED_DETACH_CHOICES
        texts = {"resume": "Resume the script, and detach", "detach": "Leave the script paused, and detach"}
    elif state.requested_pause.is_ahead(state.phase):
        choices = WILL_PAUSE_DETACH_CHOICES
        texts = {"resume": "Keep the script running, and detach", "detach": "Let the script pause, and detach"}
    elif state.phase == "loading":
        return OPENING_DETACH_CHOICES
    else:
        choices = DETACH_CHOICES
        texts = {"detach": "Keep the script running, and detach"}
    if not state.is_script:
        return choices
    texts["stop"] = f"Stop the script {'after its first' if state.phase == 'waiting' else 'after this'} step"
    return tuple(Choice(choice.id, texts.get(choice.id, choice.text)) for choice in choices)
