"""What the lab does with the messages of its threads."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.app.panes.banner import Banner
from tui_lab.app.panes.framed_log import FramedLog
from tui_lab.app.panes.overlays import read_overlay
from tui_lab.app.panes.pane import Pane
from tui_lab.app.screens.notices import Notice, dismiss_ends, notice_of, show_notice
from tui_lab.app.screens.paint_scheduler import PaintScheduler
from tui_lab.app.screens.run_controls import RunControls
from tui_lab.app.session.messages import (
    Diagnosed,
    GenerationFinished,
    GenerationMessage,
    GenerationStarted,
    Preparing,
    Ready,
    Rewound,
    SessionMessage,
    SpikeSeen,
    WeightsCopied,
    WeightsNotCopied,
)
from tui_lab.app.session.noticed import Noticed
from tui_lab.app.session.spikes import SpikeReader
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.inference.reply_log import append_reply, read_replies
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.spikes import Spike
from tui_lab.core.training.checkpoint_names import n_bytes
from tui_lab.runs.summary_text import replaced_characters
from tui_lab.util.errors import RunError
from tui_lab.util.plural import counted

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen

EVENTS = 5
"""Number of the pane."""
SECONDS_BETWEEN_CHANGES = 0.2
"""Between two frames, if the run was changed in between."""
SECONDS_BETWEEN_EVENTS = 3.0
"""If something else happened that is not a step. Small models are evaluated every two seconds, and a frame costs their
training ten steps."""


class LabMessages:
    """Applies them to the lab's state, and passes on to the panes what the state does not hold."""

    def __init__(
        self,
        lab: "LabScreen",
        painting: PaintScheduler[Pane],
        log: FramedLog,
        banner: Banner,
        controls: RunControls,
    ) -> None:
        self._lab = lab
        self._painting = painting
        self._framed_log = log
        self._banner = banner
        self._controls = controls
        self.spike_reader = SpikeReader()

    def drain(self) -> None:
        """Take the messages since the last call."""
        lab = self._lab
        # Before the source, which then has the step of the weights that generate.
        generation_messages = lab.generation.drain()
        for message in lab.source.drain():
            self._apply(message)
        for generation_message in generation_messages:
            self._receive(generation_message)
        if lab.generation_pane.form.at_evaluations and not lab.state.over:
            lab.generation.copy_weights(at_evaluation=True)
        for sample in lab.sampler.drain():
            lab.state.apply(sample)
        if (spikes := self.spike_reader.take()) is not None:
            lab.state.spikes.recorded = spikes
            self._painting.news()
        for doctor_message in lab.doctor.drain():
            lab.doctor_pane.receive(doctor_message)
            self._painting.news()
            if isinstance(doctor_message, Diagnosed):
                self._diagnosed(doctor_message)

    def _receive(self, message: GenerationMessage) -> None:
        lab = self._lab
        if isinstance(message, WeightsCopied):
            request = lab.generation_pane.request_at_evaluation(lab.state, message.info.step)
            if request is not None:
                lab.generation.start(request, message)
        elif not isinstance(message, WeightsNotCopied):  # The next evaluation is another chance.
            lab.generation_pane.receive(message)
            if isinstance(message, GenerationStarted):
                self._painting.news()
            elif isinstance(message, GenerationFinished):
                self._record(message.number)

    def _record(self, number: int) -> None:
        """Keep a reply in the run folder; without a note where that cannot be written, since nothing else is lost."""
        ready = self._lab.state.ready
        reply = self._lab.generation_pane.finished(number)
        if ready is not None and reply is not None:
            with suppress(OSError):
                append_reply(Path(ready.path), reply.record())

    def _diagnosed(self, message: Diagnosed) -> None:
        lab = self._lab
        lab.loss_pane.floor = message.report.reference_loss
        config = lab.state.trainer_config
        if config is not None and isinstance(message.config, Config) and message.config.faults == config.faults:
            self._banner.show(config, diagnosed=True)
            lab.config_pane.reveal_faults()
        if lab.lesson is not None:
            lab.lesson.receive(message)

    def _apply(self, message: SessionMessage) -> None:
        lab = self._lab
        phase = lab.state.phase
        was_script = lab.state.is_script
        noticed_before = lab.state.noticed
        latest_spike = lab.state.spikes.latest
        lab.state.apply(message)
        self._keep_for_log(message, latest_spike)
        if isinstance(message, Ready | Rewound | ev.Started | ev.Changed):
            # Even while hidden: restart, fork and diagnose use the config edited there.
            lab.config_pane.show(lab.state, lab.clock())
        if lab.state.is_script and not was_script:
            lab.batch_pane.show_script()
            lab.refresh_bindings()
        if isinstance(message, Rewound):
            for pane in lab.panes:
                pane.rewound()
        elif isinstance(message, Ready):
            dismiss_ends(lab.app)
            self._opened(message)
            for act in lab.when_open.values():
                lab.call_later(act)
            lab.when_open = {}
        else:
            self._show_noticed(noticed_before)
        if (notice := notice_of(message)) is not None and not (lab.is_current and isinstance(message, ev.Stopped)):
            show_notice(lab, notice)
        if lab.state.phase != phase:
            lab.refresh_bindings()
            if lab.state.is_script and lab.state.phase == "failed" and lab.state.ready is None:
                lab.go_to(EVENTS)  # There is nothing else to see.
        self._note_save(message)
        self._request_frame(message, phase)

    def _show_noticed(self, before: Sequence[Noticed]) -> None:
        """Tell the user what the monitors have just found. In a lesson it would answer what is asked."""
        lab = self._lab
        new = [one for one in lab.state.noticed if one.until is None and one not in before]
        for noticed in new if lab.lesson is None else []:
            text = f"{noticed.finding.title} {noticed.finding.fix}"
            show_notice(lab, Notice(text, f"step {noticed.step:,}", "warning"))

    def _keep_for_log(self, message: SessionMessage, latest_spike: Spike | None) -> None:
        """Let the events pane log a message, and the spike that it has shown. latest_spike: the one before it."""
        lab = self._lab
        is_replay = lab.source.playback is not None
        self._framed_log.keep(message, is_replay=is_replay)
        spike = lab.state.spikes.latest
        # Earlier spikes are already in the log.
        if isinstance(message, ev.StepDone) and spike is not None and spike != latest_spike:
            self._framed_log.keep(SpikeSeen(spike), is_replay=is_replay)
            self._painting.news(SECONDS_BETWEEN_EVENTS)

    async def _draw_overlaid(self, path: Path) -> None:
        """Draw the losses of the run that this one was rewound from over its own."""
        try:
            overlay = await asyncio.to_thread(read_overlay, Run(path), every_loss=True)
        except (RunError, OSError) as error:
            self._lab.notify(str(error), severity="warning")
        else:
            self._lab.loss_pane.overlays = [overlay]
            self._painting.news()

    def _note_save(self, message: SessionMessage) -> None:
        """Say that a checkpoint is saved which the user asked for, and measure with it what lacked one."""
        lab = self._lab
        if not isinstance(message, ev.Saved) or lab.source.playback is not None:
            return
        lab.batch_pane.loaded.losses.checkpoint_saved()
        if self._controls.awaits_save:
            self._controls.awaits_save = False
            lab.frames.answer(f"saved step {message.step:,}{_disk_use(lab.state.ready)}")

    def _request_frame(self, message: SessionMessage, phase_before: str) -> None:
        """Ask for a new frame if something important happened."""
        lab = self._lab
        if isinstance(message, Ready | Rewound) or lab.state.phase == "paused":
            self._painting.news()
        elif lab.state.phase != phase_before or isinstance(message, ev.Changed):
            self._painting.news(SECONDS_BETWEEN_CHANGES)
        elif not isinstance(message, ev.StepDone | ev.Logged | Preparing):
            self._painting.news(SECONDS_BETWEEN_EVENTS)

    def _opened(self, ready: Ready) -> None:
        """Show its earlier replies, say how many faults are planted, and diagnose a run that was started with a fix."""
        lab = self._lab
        config = ready.trainer_config
        lab.generation_pane.restore(read_replies(Path(ready.path)))
        self.spike_reader.start(Path(ready.path))
        if config is None or ready.task is None:
            return
        self._banner.show(config, diagnosed=False)
        if lab.source.role != "training":
            # The weights are in another process, or nowhere but on disk.
            lab.generation_pane.use_checkpoints()
        if lab.origin:
            # Only a fork has a past.
            origin = f"{lab.origin}; it starts at step {ready.past[-1].step:,}" if ready.past else lab.origin
            lab.events_pane.add(origin)
            lab.notify(origin)
        if lab.overlaid_run is not None:
            lab.run_worker(self._draw_overlaid(lab.overlaid_run), group="overlay", exclusive=True)
        if text := replaced_characters(ready.task):
            lab.notify(text, severity="warning")
        if lab.diagnose_first:
            lab.diagnose_first = False
            lab.doctor.start(config)


def _disk_use(ready: Ready | None) -> str:
    """Return how many checkpoints a run has and their size; empty if it has none here."""
    paths = [] if ready is None else Run(Path(ready.path)).saved_checkpoints()
    if not paths:
        return ""
    return f": {counted(len(paths), 'checkpoint')}, {sum(map(n_bytes, paths)) / 1e6:,.1f} MB"
