"""Runs of a recorded script that are compared in a thread, each in a process of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from tui_lab.app.session.background_work import BackgroundWork, Put
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.watch.process.recorded_script import recorded_script
from tui_lab.core.watch.randomness.traced_runs import ScriptTracer, TracingStopped
from tui_lab.core.watch.randomness.verdict import STEPS, RandomnessVerdict, judge
from tui_lab.util.child import ONE_THREAD
from tui_lab.util.errors import LabError


@dataclass(frozen=True)
class RunBegins:
    """number: of the run, from 1. purpose: what it is for."""

    number: int
    purpose: str


@dataclass(frozen=True)
class Compared:
    """The end. verdict: None if there is none. error: why."""

    verdict: RandomnessVerdict | None = None
    error: str = ""


ComparisonMessage = RunBegins | Compared


class ScriptComparison:
    """Compares runs of the script of a recorded run. one_thread: for them, because a run trains at the same time."""

    def __init__(self, config: ScriptConfig, *, one_thread: bool) -> None:
        self._config = config
        self._variables = ONE_THREAD if one_thread else {}
        self._work = BackgroundWork[ComparisonMessage]("comparison")
        self._tracer: ScriptTracer | None = None

    def start(self) -> None:
        """Begin. One Compared is the last message, unless it is closed before."""
        try:
            script = recorded_script(self._config)
        except LabError as error:
            refusal = Compared(error=str(error))
            self._work.start(lambda put: put(refusal))
            return
        self._tracer = ScriptTracer(replace(script, variables={**script.variables, **self._variables}), STEPS)
        self._work.start(partial(_compare, self._tracer))

    def drain(self) -> Sequence[ComparisonMessage]:
        """Return the messages since the last call, in order."""
        return self._work.drain()

    def close(self) -> None:
        """End the run under way and wait for its process."""
        if self._tracer is not None:
            self._tracer.stop()
        self._work.join()


def _compare(tracer: ScriptTracer, put: Put[ComparisonMessage]) -> None:
    try:
        verdict = judge(tracer, lambda number, purpose: put(RunBegins(number, purpose)))
    except TracingStopped:
        return
    except (LabError, OSError) as error:
        put(Compared(error=str(error)))
    except Exception as error:
        put(Compared(error=f"the comparison failed: {error!r}"))
    else:
        put(Compared(verdict))
