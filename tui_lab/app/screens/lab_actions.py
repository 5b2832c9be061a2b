"""What the keys of the lab do, apart from those that only steer the run."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_lab.app.actions import BY_ID, why_not
from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import keymap_of
from tui_lab.app.labels import holder_text
from tui_lab.app.panes.setting_text import changes_text, format_value
from tui_lab.app.resuming import why_not_resumable
from tui_lab.app.screens.close_controls import CloseControls
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.app.screens.doctor_controls import DoctorControls
from tui_lab.app.screens.example_controls import ExampleControls
from tui_lab.app.screens.fork_controls import ForkControls, followed_text
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.notices import Notice, show_notice
from tui_lab.app.screens.run_controls import RunControls, pause_replay
from tui_lab.app.screens.spike_controls import SpikeControls
from tui_lab.app.session.generation import why_no_model
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig, ScriptConfig
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.fixes import unfixed
from tui_lab.core.runs.lock import in_use
from tui_lab.runs.numbers import span
from tui_lab.util import files

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.core.training.reproducibility import RandomSource

GENERATION, DOCTOR = 4, 6
"""Numbers of panes."""
HOW_TO_FOLLOW = "Press w, then Enter on the run to follow it."
SECONDS_TO_ASK = 60.0
"""A restart asks first if more training than that is newer than the last checkpoint."""


class LabActions:
    """Carry out commands on a lab screen; `actions` maps every id of `tui_lab.app.actions` to a callable."""

    def __init__(self, lab: "LabScreen") -> None:
        self._lab = lab
        self.controls = RunControls(lab.source, lab.state, lab.steer)
        self._forking = ForkControls(lab, self.restart)
        self._closing = CloseControls(lab)
        self.spikes = SpikeControls(lab, self.restart)
        self._doctor = DoctorControls(
            lab.doctor,
            lab.source,
            lab.state,
            self.controls,
            restart=partial(self.restart, diagnose=True),
            notify=lab.notify,
            warn=partial(lab.notify, severity="warning"),
        )
        self.actions: dict[str, Callable[[], object]] = {
            **self.controls.actions,
            **ExampleControls(lab).actions,
            **{f"pane_{pane.number}": partial(lab.go_to, pane.number) for pane in lab.panes},
            "resume": self.resume,
            "restart": lambda: self.with_edited(self.ask_to_restart),
            "fork": lambda: self.with_edited(self._forking.fork),
            "generate": lambda: self.once_open("the answer is generated", self.generate),
            "diagnose": lambda: self.once_open("the settings are diagnosed", self.diagnose),
            "find_rate": self.find_rate,
            "zoom": lab.area.zoom,
            "copy": lambda: copy(lab.app, lab.active_pane.copied()),
            "layout": lambda: lab.post_message(lab.LayoutChosen(lab.area.next_layout())),
            "save_config": lambda: self.with_edited(self.save_config),
            "theme": lambda: lab.call_later(lab.app.run_action, "next_theme"),
            "help": lambda: lab.app.push_screen(Help(lab.active_pane.help_name, lab.state.run_config)),
            "runs": self.open_runs,
            "home": lambda: self._closing.close("home"),
            "quit": lambda: self._closing.close("quit"),
        }

    def open_runs(self) -> None:
        from tui_lab.app.screens.runs.screen import RunsScreen  # Later than the first frame of the lab.

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

    def compare_runs(self) -> None:
        """Run the script of a recorded run twice, and show whether these runs are the same."""
        from tui_lab.app.screens.randomness import RandomnessScreen
        from tui_lab.app.session.script_comparison import ScriptComparison

        script = self._lab.state.run_config
        if isinstance(script, ScriptConfig):
            comparison = ScriptComparison(script, one_thread=self._trains)
            self._lab.app.push_screen(RandomnessScreen(" ".join(script.command), comparison))

    def find_rate(self) -> None:
        """Test learning rates for the edited config, or for the script of a recorded run."""
        script = self._lab.state.run_config
        if isinstance(script, ScriptConfig):
            self._find_rate_of_script(script)
        else:
            self.with_edited(self._find_rate)

    def _find_rate(self, config: Config) -> None:
        """Test learning rates for the edited config, and put the chosen one into it."""
        from tui_lab.app.screens.rates import RateScreen
        from tui_lab.app.session.rate_search import ChildRateSearch

        lab = self._lab

        def use(rate: float | None) -> None:
            if rate is not None:
                lab.go_to(lab.config_pane.number)
                lab.config_pane.action_cancel("optim.lr")
                lab.config_pane.set_value("optim.lr", rate)

        effect = "change to" if lab.config_pane.can_steer else "set"
        search = ChildRateSearch(config, one_thread=self._trains)
        screen = RateScreen(config.optim.name, "initial weights", search, effect, config.train.seed)
        lab.app.push_screen(screen, use)

    def _find_rate_of_script(self, config: ScriptConfig) -> None:
        """Test learning rates for a script, from its first line on; give the chosen one to the script that trains."""
        from tui_lab.app.screens.rates import RateScreen
        from tui_lab.app.session.rate_search import ScriptRateSearch

        lab = self._lab

        def use(rate: float | None) -> None:
            step = lab.state.last
            if rate is None or step is None:
                return
            own = (step.extra or {}).get("script_lr", step.lr)  # Only a rate that is changed is recorded beside it.
            if own > 0:
                self.controls.set_live({"optim.lr_factor": float(f"{rate / own:.3g}")})

        effect = "change to" if lab.config_pane.can_steer else ""
        search = ScriptRateSearch(config, one_thread=self._trains)
        lab.app.push_screen(RateScreen(config.optim.name, "the script's first steps", search, effect), use)

    @property
    def _trains(self) -> bool:
        """Whether a run trains in this process."""
        return self._lab.state.phase == "running" and self._lab.source.role == "training"

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
            question = f"A new run starts here at step 0. This run stays unchanged. {followed_text(lab.state.phase)}"
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
        # One without a step is not kept, see Session.removes_unused.
        is_kept = lab.source.role != "training" or lab.state.step > 0
        origin = origin_text(ready.name, old, config, fork=fork, is_kept=is_kept)
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


def why_not_now(command_id: str, source: Source, state: LabState) -> str:
    """Return why the run of a script does not have a command, or not any more; empty if it has."""
    reason = why_not(command_id, state.run_config)
    if not reason and command_id == "generate" and state.is_script:
        reason = why_no_model(source, state)
    return reason


def origin_text(name: str, old: Config, new: Config, *, fork: bool, is_kept: bool = True) -> str:
    """Return from which run a new one comes, and what was changed."""
    changes = changes_text(old, new)
    restarted = f"restarted from {name}" + (", which is kept" if is_kept else "")
    start = f"forked from {name}" if fork else restarted
    return f"{start}: {changes}" if changes else start


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
