"""What the keys of the lab do, apart from those that only steer the run."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tui_lab.app.actions import BY_ID
from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import keymap_of
from tui_lab.app.labels import holder_text
from tui_lab.app.panes.recorded_batch import NO_TOKENS
from tui_lab.app.panes.setting_text import changes_text, format_value
from tui_lab.app.resuming import why_not_resumable
from tui_lab.app.screens.dialogs import Ask, AskLine, AskToClose, Choice
from tui_lab.app.screens.doctor_controls import DoctorControls
from tui_lab.app.screens.fork_controls import ForkControls, followed_text
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.notices import Notice, show_notice
from tui_lab.app.screens.run_controls import RunControls, pause_replay
from tui_lab.app.screens.spike_controls import SpikeControls
from tui_lab.app.session.attention_source import AttentionSource, InspectedMaps, ScriptMaps
from tui_lab.app.session.generation import why_no_model
from tui_lab.app.session.inside_source import InsideSource, InspectedInside, ScriptInside
from tui_lab.core import commands as cmd
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig, ScriptConfig
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.fixes import unfixed
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import in_use
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.runs.numbers import span
from tui_lab.util import files
from tui_lab.util.errors import RunError

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.core.training.reproducibility import RandomSource

Destination = Literal["quit", "home"]
"""Where to go when the lab closes: out of the app, or to the start screen."""
GENERATION, DOCTOR = 4, 6
"""Numbers of panes."""
HOW_TO_FOLLOW = "Press w, then Enter on the run to follow it."
ONLY_LAYERS = "Not available: {}. Layers over time (4) are recorded by the script."
SECONDS_TO_ASK = 60.0
"""A restart asks first if more training than that is newer than the last checkpoint."""
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
PAUSED_DETACH_CHOICES = (
    Choice("resume", "Resume training, and detach"),
    Choice("detach", "Leave it paused, and detach"),
    *DETACH_CHOICES[1:],
)


class LabActions:
    """Carry out commands on a lab screen; `actions` maps every id of `tui_lab.app.actions` to a callable."""

    def __init__(self, lab: "LabScreen") -> None:
        self._lab = lab
        self.controls = RunControls(lab.source, lab.state, lab.steer)
        self._forking = ForkControls(lab, self.restart)
        self.spikes = SpikeControls(lab, self.restart)
        self._doctor = DoctorControls(
            lab.doctor,
            lab.source,
            lab.state,
            self.controls,
            restart=partial(self.restart, diagnose=True),
            tell=lab.notify,
            warn=partial(lab.notify, severity="warning"),
        )
        self.actions: dict[str, Callable[[], object]] = {
            **self.controls.actions,
            **{f"pane_{pane.number}": partial(lab.go_to, pane.number) for pane in lab.panes},
            "resume": self.resume,
            "restart": lambda: self.with_edited(self.ask_to_restart),
            "fork": lambda: self.with_edited(self._forking.fork),
            "generate": lambda: self.once_open("the answer is generated", self.generate),
            "diagnose": lambda: self.once_open("the settings are diagnosed", self.diagnose),
            "attention": self.show_attention,
            "examples": self.show_examples,
            "find_rate": lambda: self.with_edited(self._find_rate),
            "inside": self.show_inside,
            "zoom": lab.area.zoom,
            "copy": lambda: copy(lab.app, lab.active_pane.copied()),
            "layout": lambda: lab.post_message(lab.LayoutChosen(lab.area.next_layout())),
            "save_config": lambda: self.with_edited(self.save_config),
            "theme": lambda: lab.call_later(lab.app.run_action, "next_theme"),
            "help": lambda: lab.app.push_screen(Help(lab.active_pane.help_name, lab.state.run_config)),
            "runs": self.open_runs,
            "home": lambda: self.close("home"),
            "quit": lambda: self.close("quit"),
        }

    def open_runs(self) -> None:
        from tui_lab.app.screens.runs import RunsScreen  # Later than the first frame of the lab.

        self._lab.app.push_screen(RunsScreen())

    def with_edited(self, act: Callable[[Config], object]) -> None:
        """Call `act` with the config as edited in its pane, if a run is open."""
        edited = self._lab.config_pane.edited
        if self._lab.state.phase == "loading" and self._lab.state.ready is None:
            self._lab.notify("The run is still loading.")
        elif isinstance(edited, Config) and self._lab.state.ready is not None:
            act(edited)

    def once_open(self, what: str, act: Callable[[], object]) -> None:
        """Call `act` now, or as soon as the run is open. what: what then happens, for the user."""
        lab = self._lab
        if lab.state.phase == "loading" and lab.state.ready is None:
            lab.when_open = {**lab.when_open, what: act}
            lab.notify(f"The run is still loading: {what} as soon as it is open.")
        else:
            act()

    def generate(self) -> None:
        if self._lab.state.is_script and self._lab.state.ready is None:
            self._lab.notify("The script has not made an optimizer step yet, so its model is not known.")
            return
        # The focus goes to the answers, not to the prompt, so that the next key is a command again.
        self._lab.go_to(GENERATION, "#replies")
        shown = self._lab.frames.shown
        self._lab.generation_pane.generate(shown if shown.ready is not None else self._lab.state)

    def diagnose(self) -> None:
        """Diagnose the edited config, or run the script of a recorded run again and examine it."""
        script = self._lab.state.run_config
        if isinstance(script, ScriptConfig):
            self._diagnose(script)
        else:
            self.with_edited(self._diagnose)

    def _diagnose(self, config: RunConfig) -> None:
        self._lab.go_to(DOCTOR)
        self._doctor.diagnose(config)

    def apply_fix(self, finding: Finding) -> None:
        self.with_edited(lambda config: self._doctor.apply_fix(config, finding))

    def pin(self, sources: "tuple[RandomSource, ...]") -> None:
        """Pin the given sources of randomness."""
        self.with_edited(lambda config: self._doctor.pin(config, sources))

    def show_attention(self) -> None:
        lab = self._lab
        if lab.state.is_script and (reason := why_no_model(lab.source, lab.state)):
            lab.notify(f"Attention is not available: {reason}.", severity="warning")
            return
        example = lab.batch_pane.current_example(lab.state)
        if example is None:
            lab.notify(self._why_no_example(), severity="warning")
            return

        from tui_lab.app.screens.attention import AttentionScreen

        rows, row = example
        source: AttentionSource = InspectedMaps(lab.source.send)
        replayed = lab.source.role != "training"
        if lab.state.is_script and lab.state.ready is not None:
            source = ScriptMaps(lab.source.send, Path(lab.state.ready.path))
            replayed = False
        above = None if lab.lesson is None else lab.lesson.text_above_attention()
        lab.app.push_screen(
            AttentionScreen(
                lab.state, rows, row, source, self._do_if_applies, lab.clock, replayed=replayed, above=above
            )
        )

    def _do_if_applies(self, id: str) -> None:
        if self._lab.is_enabled(id):
            self._lab.action_do(id)

    def show_inside(self) -> None:
        """Look inside the model at the selected example; without one, show the layers over time."""
        from tui_lab.app.screens.inside import InsideScreen

        lab = self._lab
        example = lab.batch_pane.current_example(lab.state)
        rows, row = (None, 0) if example is None else example
        why_not = self._why_no_example() if rows is None else ""
        source: InsideSource = InspectedInside(lab.source.send)
        replayed = lab.source.role != "training"
        if lab.state.is_script and lab.state.ready is not None:
            source = ScriptInside(lab.source.send, Path(lab.state.ready.path))
            replayed = False
            if reason := why_no_model(lab.source, lab.state):
                rows, why_not = None, ONLY_LAYERS.format(reason)
        lab.app.push_screen(
            InsideScreen(
                lab.state,
                rows,
                row,
                source,
                self._do_if_applies,
                lab.clock,
                replayed=replayed,
                why_no_example=why_not,
            )
        )

    def show_examples(self) -> None:
        lab = self._lab
        ready = lab.state.ready
        if ready is None:
            lab.notify(f"There are no examples yet: the run is being opened ({lab.state.doing}).", severity="warning")
            return

        from tui_lab.app.screens.examples import ExamplesScreen
        from tui_lab.app.session.examples_process import ExamplesProcess

        def is_live() -> bool:
            return lab.source.role == "training" and not lab.state.over

        def step() -> int | None:
            """The step of the checkpoint that a replay is at, as in the batch pane."""
            try:
                return step_of(Run(Path(ready.path)).checkpoint_at(lab.state.step)) if is_replay else None
            except RunError:
                return None

        is_replay = lab.source.role == "replay"
        asker = ExamplesProcess(Path(ready.path), lab.source.send)
        lab.app.push_screen(ExamplesScreen(ready.name, asker, lab.state.run_config, live=is_live, step=step))

    def _find_rate(self, config: Config) -> None:
        """Test learning rates for the edited config, and put the chosen one into it."""
        from tui_lab.app.screens.rates import RateScreen
        from tui_lab.app.session.rate_search import ChildRateSearch

        lab = self._lab
        trains = lab.state.phase == "running" and lab.source.role == "training"

        def use(rate: float | None) -> None:
            if rate is not None:
                lab.go_to(lab.config_pane.number)
                lab.config_pane.action_cancel("optim.lr")
                lab.config_pane.set_value("optim.lr", rate)

        effect = "change to" if lab.config_pane.can_steer else "set"
        lab.app.push_screen(RateScreen(config, ChildRateSearch(one_thread=trains), effect), use)

    def _why_no_example(self) -> str:
        lab = self._lab
        if lab.state.is_script:
            return NO_TOKENS if lab.batch_pane.has_batch else "There is no example yet: no batch is recorded."
        return f"There is no example yet: the run is being opened ({lab.state.doing})."

    def save_config(self, config: Config) -> None:
        """Ask for a file name, and write the config there."""
        lab = self._lab
        assert lab.state.ready is not None

        def save(name: str | None) -> None:
            if name is not None:
                show_notice(lab, save_config(config, Path(name).expanduser()))

        lab.app.push_screen(AskLine("Save the config as", f"{lab.state.ready.name}.toml"), save)

    def ask_to_restart(self, config: Config) -> None:
        """Start a new run, after a question if this one is left while it trains, or if much of it is not saved."""
        lab = self._lab
        question = ""
        choice = Choice("restart", "Stop, save and restart")
        if lab.source.role in ("steering", "watching") and not lab.state.over:
            question = f"A new run starts here at step 0. This run is left as it is. {followed_text(lab.state.phase)}"
            choice = Choice("restart", "Start a new run")
        elif lab.source.role == "training" and not lab.state.over and lab.state.unsaved_seconds > SECONDS_TO_ASK:
            saved = f"step {lab.state.saved_step:,}" if lab.state.saved_step else "none yet"
            question = (
                f"{span(lab.state.unsaved_seconds)} min of training are newer than the last checkpoint ({saved}). "
                "This run is stopped and saved; a new one starts at step 0."
            )
        if not question:
            self.restart(config)
            return
        lab.app.push_screen(
            Ask(question, (choice, Choice("cancel", "Cancel"))),
            lambda answer: self.restart(config) if answer == "restart" else None,
        )

    def restart(
        self,
        config: Config,
        *,
        fork: bool = False,
        diagnose: bool = False,
        old: Config | None = None,
        step: int | None = None,
        overlaid_run: Path | None = None,
    ) -> None:
        """Start a new run with `config`, from the start or from a checkpoint.

        old: the settings that it differs from, by default those in effect. step: of the checkpoint; None: the last one.
        overlaid_run: the folder of the run whose curves are drawn over those of the new one.
        """
        lab = self._lab
        ready = lab.state.ready
        if ready is None:
            return
        if fork and lab.source.role == "training" and not lab.state.over:
            lab.source.send(cmd.Save(keep=False))
        name = ready.path if fork else ready.name
        old = old or lab.state.trainer_config or config
        origin = origin_text(ready.name, old, config, fork=fork)
        findings = unfixed(lab.doctor_pane.diagnosed, old, config) if diagnose else ()
        message = lab.Restart(lab, name, config, fork=fork, step=step, diagnose=diagnose, origin=origin)
        message.unfixed = findings
        message.overlaid_run = overlaid_run
        lab.post_message(message)

    def resume(self) -> None:
        """Close the replay and train its run on, unless only another process can."""
        lab = self._lab
        ready = lab.state.ready
        if ready is None:
            return
        if (holder := in_use(Path(ready.path))) is not None:
            lab.notify(
                f"{ready.name} is being trained by {holder_text(holder, time.time())}. {HOW_TO_FOLLOW}",
                severity="warning",
            )
        elif reason := why_not_resumable(Path(ready.path)):
            lab.notify(reason, severity="warning")
        else:
            edited = lab.config_pane.settings
            self._resume(Pick("resume", ready.path), {} if edited is None else edited.edits)

    def _resume(self, pick: Pick, edits: dict[str, Any]) -> None:
        """Resume a run, after a question if settings were edited: only live ones can be changed in it."""
        lab = self._lab
        live = {key: value for key, value in edits.items() if settings.is_live(key)}
        if not edits:
            lab.post_message(lab.Close(lab, "home", pick))
            return

        def answered(answer: str | None) -> None:
            if answer in ("change", "resume"):
                changes = tuple(live.items()) if answer == "change" else ()
                lab.post_message(lab.Close(lab, "home", replace(pick, changes=changes)))
            else:
                play_on()

        restart = keymap_of(lab.app).key_of(BY_ID["restart"])
        others = [key for key in edits if key not in live]
        question = f"You edited {', '.join(f'{key} = {format_value(value)}' for key, value in edits.items())}."
        if others:
            question += f" A resumed run keeps its {', '.join(others)}; {restart} starts a new run with the edits."
        play_on = pause_replay(lab.source)
        choices = [Choice("change", f"Resume, and change {', '.join(live)}")] if live else []
        choices += [Choice("resume", "Resume without the edits"), Choice("cancel", "Cancel")]
        lab.app.push_screen(Ask(question, tuple(choices)), answered)

    def close(self, destination: Destination) -> None:
        """Close the lab, after a question if the run is still training."""
        lab = self._lab
        is_opening = lab.source.role == "training" and lab.state.phase == "loading"  # Nothing was trained here yet.
        if lab.state.over or is_opening or lab.source.role in ("watching", "replay"):
            lab.post_message(lab.Close(lab, destination))
            return

        def detach(answer: str | None) -> None:
            if answer == "stop":
                lab.source.send(cmd.Stop())
                lab.stopping = True
                lab.close_when_done = destination
            elif answer in ("detach", "resume"):
                if answer == "resume":
                    lab.source.send(cmd.Resume())
                    lab.resumed_to_detach = True
                lab.post_message(lab.Close(lab, destination))

        def close(answer: str | None) -> None:
            if answer == "stop":
                lab.post_message(lab.Close(lab, destination))
            elif answer == "finish":
                lab.close_when_done = destination
                if lab.state.phase == "paused":
                    lab.source.send(cmd.Resume())

        if lab.source.role == "steering":
            choices = detach_choices(is_script=lab.state.is_script, paused=lab.state.phase == "paused")
            lab.app.push_screen(AskToClose(self._followed_question(), choices), detach)
        else:
            question = "Training is paused." if lab.state.phase == "paused" else "Training is still running."
            lab.app.push_screen(AskToClose(question, CLOSE_CHOICES[destination]), close)

    def _followed_question(self) -> str:
        """Return what is said of a run of another process when the app leaves it."""
        lab = self._lab
        trainer = "The script" if lab.state.is_script else "The process that trains this run"
        if lab.stopping:
            return f"{trainer} has not stopped yet."
        if lab.state.phase == "paused":
            return f"{trainer} is paused."
        return "The script is still training." if lab.state.is_script else "Another process is training this run."


def origin_text(name: str, old: Config, new: Config, *, fork: bool) -> str:
    """Return from which run a new one comes, and what was changed."""
    changes = changes_text(old, new)
    start = f"forked from {name}" if fork else f"restarted from {name}, which is kept"
    return f"{start}: {changes}" if changes else start


def detach_choices(*, is_script: bool, paused: bool) -> tuple[Choice, ...]:
    """Return what can be done with the process that trains when the app leaves it."""
    choices = PAUSED_DETACH_CHOICES if paused else DETACH_CHOICES
    if not is_script:
        return choices
    texts = {
        "resume": "Resume the script, and detach",
        "detach": f"{'Leave the script paused' if paused else 'Keep the script running'}, and detach",
        "stop": "Stop the script after this step",
    }
    return tuple(Choice(choice.id, texts.get(choice.id, choice.text)) for choice in choices)


def save_config(config: Config, path: Path) -> Notice:
    """Write a config to a new file; return the message for the user."""
    text = settings.to_toml(config)
    try:
        if path.exists():
            raise FileExistsError(0, "the file exists; nothing was written")
        files.write_text(path, text)
    except OSError as error:
        return Notice(f"{path}: {error.strerror}", severity="error")
    return Notice(f"saved {path}; train it with: tui-lab run {path}")
