"""Every message from a background thread to the app.

Threads put messages into a `Buffer`; screens drain it in their ticks. All messages are frozen.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig, ScriptConfig
from tui_lab.core.doctor.findings import Report
from tui_lab.core.inference.sampling import Generated
from tui_lab.core.runs.spikes import Spike
from tui_lab.data.dataset import Task
from tui_lab.data.tokenizers import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

# From a run or replay


@dataclass(frozen=True)
class Preparing:
    """Work before training can start; `done` of `total` units."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Ready:
    """A run or replay is open."""

    name: str
    path: str
    config: RunConfig
    """As the run began; the live changes are among `past`."""
    task: Task | None
    """None for the run of a script."""
    tokenizer: Tokenizer
    past: tuple[ev.Event, ...] = ()
    """What the run did before it was opened, downsampled."""
    in_progress: bool = False
    """Whether another process has done what is `past`, and continues from there."""

    @property
    def trainer_config(self) -> Config | None:
        """The config of a run of our trainer; None for the run of a script."""
        return None if isinstance(self.config, ScriptConfig) else self.config


@dataclass(frozen=True)
class Rewound:
    """A replay went to another step: what came before does not hold any more."""

    ready: Ready
    past: tuple[ev.Event, ...]
    """What the run did until that step, downsampled."""


@dataclass(frozen=True)
class Recorded:
    """All live changes of a recording, from the start to its end: a replay knows the settings of its later steps."""

    changes: tuple[ev.Changed, ...]


@dataclass(frozen=True)
class SpikeSeen:
    """The loss of a step is a spike."""

    spike: Spike


@dataclass(frozen=True)
class RecordedPause:
    """The run was paused or resumed when it was recorded; the replay has its own pauses."""

    event: ev.Paused | ev.Resumed


@dataclass(frozen=True)
class Waiting:
    """A script runs, and has not made an optimizer step yet.

    seconds: since it was started. config: what is known of it, such as its command.
    """

    name: str
    path: str
    seconds: float
    config: ScriptConfig = ScriptConfig()


@dataclass(frozen=True)
class PauseRequested:
    """What all apps together have asked of a script that has not made a step; fields as of `RequestedPause`."""

    step: int | None
    by_steps: bool


@dataclass(frozen=True)
class Printed:
    """What the process that trains has printed since the last message.

    unfinished: the latest part of a line without an end, such as a progress bar. n_skipped: bytes that were left out
    before `lines`.
    """

    lines: tuple[str, ...]
    unfinished: str = ""
    n_skipped: int = 0


@dataclass(frozen=True)
class SessionFailed:
    """The run or replay cannot continue. message is for the user; details, if any, is a traceback."""

    message: str
    details: str = ""
    is_script: bool = False
    """Whether a script ended, without an error that is known."""


@dataclass(frozen=True)
class Interrupted:
    """The log does not say how the run ended, and no process trains it: its process was killed."""

    message: str = ""
    """What to tell the user of a followed run, if the end was seen."""


@dataclass(frozen=True)
class GpuSample:
    """One NVIDIA GPU. Percent, bytes, degrees Celsius and watts; None: not known."""

    name: str
    used_percent: float | None
    used_bytes: int | None
    total_bytes: int | None
    temperature: float | None
    watts: float | None


@dataclass(frozen=True)
class SystemSample:
    """What the machine does at a moment.

    cpu_percent: of all cores; process_cpu_percent: of one core, of the process that trains, else of this app;
    process_bytes: its resident memory; cpu_temperature: degrees Celsius. None: not known.
    """

    pid: int
    trains: bool
    """Whether the process is the one that trains the run."""
    cpu_percent: float
    process_cpu_percent: float | None
    process_bytes: int | None
    used_bytes: int
    total_bytes: int
    cpu_temperature: float | None = None
    gpus: tuple[GpuSample, ...] = ()


SessionMessage = (
    Preparing
    | Ready
    | Rewound
    | Recorded
    | RecordedPause
    | SpikeSeen
    | Waiting
    | PauseRequested
    | Printed
    | SessionFailed
    | Interrupted
    | SystemSample
    | ev.Event
)

# From the generation thread; `number` is that of the request


@dataclass(frozen=True)
class GenerationStarted:
    number: int
    weights: cmd.WeightsInfo


@dataclass(frozen=True)
class TokenGenerated:
    number: int
    generated: Generated


@dataclass(frozen=True)
class GenerationFinished:
    """The end of a reply; error is None after a regular one."""

    number: int
    error: str | None = None


@dataclass(frozen=True)
class WeightsCopied:
    """The weights of an evaluation, or those before the first step, for an answer to the prompt."""

    info: cmd.WeightsInfo
    weights: "dict[str, Tensor]"


@dataclass(frozen=True)
class WeightsNotCopied:
    """There is no copy of the weights for an answer to the prompt."""

    reason: str


GenerationMessage = WeightsCopied | WeightsNotCopied | GenerationStarted | TokenGenerated | GenerationFinished

# From the doctor's thread


@dataclass(frozen=True)
class CheckStarted:
    name: str


@dataclass(frozen=True)
class Diagnosed:
    config: RunConfig
    report: Report


@dataclass(frozen=True)
class DiagnosisFailed:
    message: str


DoctorMessage = CheckStarted | Diagnosed | DiagnosisFailed

# From the thread that generates from several runs


@dataclass(frozen=True)
class ReplyStarted:
    run: Path
    weights: str
    """Which weights generate, for the user."""


@dataclass(frozen=True)
class ReplyText:
    """More text of a run's reply."""

    run: Path
    text: str


@dataclass(frozen=True)
class ReplyFinished:
    """The end of a run's reply; error is None after a regular one."""

    run: Path
    error: str | None = None


ReplyMessage = ReplyStarted | ReplyText | ReplyFinished
