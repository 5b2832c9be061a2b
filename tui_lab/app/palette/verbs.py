"""The palette's commands with an argument, by screen."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.screen import Screen
from textual.widgets import Input

from tui_lab.app.actions import applies
from tui_lab.app.palette.offers import Verb, of_names, of_number, of_text
from tui_lab.app.palette.setting_offers import SettingOffers
from tui_lab.app.panes.sampling_fields import BOUNDS
from tui_lab.util.errors import ConfigError

# The palette also opens at Home, before these are imported.
if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.app.screens.runs.screen import RunsScreen

BATCH, GENERATION = 3, 4
"""Numbers of panes."""


def verbs_of(screen: Screen[Any]) -> list[Verb]:
    """Return the commands with an argument that a screen offers: those of its attribute `verbs`, if it has one."""
    own: Callable[[], list[Verb]] = getattr(screen, "verbs", list)
    return [*own(), theme(screen)]


def lab_verbs(lab: "LabScreen") -> list[Verb]:
    seek_if_replay = [] if lab.source.playback is None else [seek(lab)]
    return [set_value(lab), go(lab), *seek_if_replay, every(lab), generate(lab), config_filter(lab)]


def run_verbs(screen: "RunsScreen") -> list[Verb]:
    return [run_filter(screen)]


def theme(screen: Screen[Any]) -> Verb:
    app = screen.app

    def switch(name: str) -> None:
        app.theme = name

    def names() -> list[str]:
        return [name for name in app.available_themes if not name.endswith("-ansi")]

    return Verb("theme", "NAME", "switch the theme", of_names("theme", names, "switch to it", switch), is_title=True)


def set_value(lab: "LabScreen") -> Verb:
    def can_steer() -> bool:
        return applies("live", phase=lab.state.phase, role=lab.source.role)

    def apply(key: str, text: str) -> None:
        try:
            lab.config_pane.enter(key, text)
        except ConfigError as error:  # Another setting has changed since the line was typed.
            lab.notify(str(error.problems[0]), severity="error")

    offers = SettingOffers(lambda: lab.config_pane.edited, can_steer, apply)
    return Verb("set", "KEY VALUE", "change a setting", offers, offers.understands)


def go(lab: "LabScreen") -> Verb:
    def show(step: int) -> None:
        lab.go_to(BATCH)
        lab.batch_pane.go_to(step - 1)  # Users count from 1.

    def about(step: int) -> str:
        config = lab.state.trainer_config
        n_steps = 0 if config is None else config.train.steps
        after_end = f", after the last step of this run, {n_steps:,}" if 0 < n_steps < step else ""
        return f"show the batch of step {step:,}{after_end}"

    offers = of_number("go", about, show, least=1, most=lambda: None)
    return Verb("go", "STEP", "show the batch of a step, past or future", offers)


def seek(lab: "LabScreen") -> Verb:
    def last_step() -> int | None:
        playback = lab.source.playback
        return None if playback is None or playback.timeline is None else playback.timeline.end

    def run(step: int) -> None:
        if lab.source.playback is not None:
            lab.source.playback.seek(step)

    def about(step: int) -> str:
        playback = lab.source.playback
        is_paused = playback is not None and playback.paused
        return f"show the run at step {step:,}" if is_paused else f"play the run from step {step:,} on"

    return Verb("seek", "STEP", "go to a step of the replay", of_number("seek", about, run, least=0, most=last_step))


def every(lab: "LabScreen") -> Verb:
    def repeat(steps: int) -> None:
        lab.generation_pane.query_one("#every", Input).value = str(steps)

    def about(steps: int) -> str:
        return f"generate from the prompt every {steps:,} steps" if steps else "do not repeat the prompt"

    least, most = BOUNDS["every"]
    offers = of_number("every", about, repeat, least=least, most=lambda: most)
    return Verb("every", "STEPS", "repeat the prompt every so many steps; 0: not", offers)


def generate(lab: "LabScreen") -> Verb:
    def run(prompt: str) -> None:
        lab.go_to(GENERATION)  # Its first prompt is put in when it is shown.
        lab.generation_pane.query_one("#prompt", Input).value = prompt
        lab.action_do("generate")

    offers = of_text("generate", "a prompt", "generate from this prompt", run)
    return Verb("generate", "PROMPT", "generate from a prompt", offers, is_title=True)


def config_filter(lab: "LabScreen") -> Verb:
    def search(text: str) -> None:
        lab.go_to(lab.config_pane.number)
        lab.config_pane.action_search()
        lab.config_pane.query_one("#search", Input).value = text

    return Verb(
        "filter",
        "TEXT",
        "list the settings whose names contain a text",
        of_text("filter", "a part of a setting's name", "list these settings", search),
    )


def run_filter(screen: "RunsScreen") -> Verb:
    def filter_runs(text: str) -> None:
        screen.action_filter()
        screen.query_one("#where", Input).value = text

    return Verb(
        "filter",
        "CONDITIONS",
        "list some of the runs, such as optim.lr<0.01 state=done",
        of_text("filter", "parts of a name or tag, or conditions", "list these runs", filter_runs),
    )
