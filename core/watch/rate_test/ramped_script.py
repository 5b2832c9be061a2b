"""A script whose learning rate is tested: recorded with rates of ours, until the last one has been tried."""

import math
import os
from dataclasses import asdict
from pathlib import Path

from tui_lab.core import events as ev
from tui_lab.core.config.script import BY_HAND, ScriptConfig
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.range_points import RateRange
from tui_lab.core.watch.event_writer import Job
from tui_lab.core.watch.process.script_process import end_now
from tui_lab.core.watch.rate_test.rate_ramp import RateRamp
from tui_lab.core.watch.recorder import Recorder
from tui_lab.core.watch.run_log import RunLog
from tui_lab.util.json_lines import JsonLines

NO_OPTIMIZER = "it changes its weights without a torch optimizer, so its learning rate cannot be set from outside"


class RampedScript:
    """Writes lines for the parent process, and nothing of what a run folder would hold.

    The lines: {"script": …} at the first step, {"step": …} for each, {"groups": …} with the parameter groups at the
    first step and where another optimizer steps, {"failed": …} where the rate cannot be set.
    """

    def __init__(self, lines: JsonLines, rate_range: RateRange) -> None:
        self._lines = lines
        self._n_steps = 0
        self._n_groups = 0
        self._log = RunLog(Run(Path(lines.path).parent), ScriptConfig(folder=os.getcwd()), self)
        self._recorder = Recorder(self._log, self._step_ended)
        self._ramp = RateRamp(rate_range, lambda: self._recorder.steps.n_complete - self._log.steps_before)
        self._recorder.steering = self._ramp
        self._recorder.hooks.install()

    def put(self, item: ev.Event | Job) -> None:
        """Take what is recorded."""
        match item:
            case ev.Started():
                optim = self._log.config.optim
                if optim.name == BY_HAND or self._ramp.problem:
                    self._fail(NO_OPTIMIZER if optim.name == BY_HAND else self._ramp.problem)
                rates = self._ramp.rates
                self._lines.write(script={"optimizer": optim.name, "low": rates[0], "high": rates[-1]})
            case ev.StepDone():
                self._n_steps += 1
                self._write_groups()
                loss = item.loss if math.isfinite(item.loss) else None
                self._lines.write(step={"lr": item.lr, "loss": loss, "script_lr": self._ramp.latest_own_rate})

    def _write_groups(self) -> None:
        """Write the parameter groups, if there are more than before."""
        if self._n_groups < len(self._ramp.groups):
            self._n_groups = len(self._ramp.groups)
            self._lines.write(groups=[asdict(group) for group in self._ramp.groups])

    def _step_ended(self, recorder: Recorder) -> None:
        recorder.close_step(wait=True)
        if self._ramp.problem:
            self._fail(self._ramp.problem)
        # The loss of one more batch shows the effect of the last rate.
        if self._n_steps > len(self._ramp.rates):
            end_now()

    def _fail(self, why: str) -> None:
        self._lines.write(failed=why)
        end_now()

    def finish(self) -> None:
        """Write the last steps of a script that has ended by itself."""
        self._recorder.finish()
