"""Open a training: a new run, one that goes on, or a branch of another."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.core.commands import CommandQueue
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.events import Changed, Event, Saved
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.memory_estimate import is_out_of_memory, out_of_memory_error
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import Lock
from tui_lab.core.runs.summary import Summarizer, summarize, summarize_log
from tui_lab.core.trainer import Trainer
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.control import TrainControl, undo_stack
from tui_lab.core.training.distributed import SINGLE_PROCESS, ProcessGroup
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_loader, build_task, change_loader
from tui_lab.core.user_code.import_file import PATH_SETTINGS, absolute_setting
from tui_lab.data.corpora.encode import ReportProgress
from tui_lab.data.dataset import Task
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.files import advice


@dataclass(frozen=True)
class Opened:
    run: Run
    trainer: Trainer
    seen: Summarizer
    """Has watched what the run did before, if anything."""
    lock: Lock
    """Held while it is recorded."""

    def close(self) -> None:
        """Nothing more is recorded: others may go on with the run."""
        self.lock.release()


@contextmanager
def _shortage_in_words(config: Config, n_vocab: int) -> Iterator[None]:
    """Raises TrainingError, with what to shrink, where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory_error(config, n_vocab) from None


def start(
    source: str,
    overrides: Sequence[str],
    out: Path | None,
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Opened:
    """A new run of a preset or file.

    Raises ConfigError, DataError, RunError or, where memory runs out, TrainingError before anything is written.
    """
    return begin(source, settings.load(source, overrides), out, progress, commands, group)


def begin(
    name: str,
    config: Config,
    out: Path | None = None,
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Opened:
    """A new run of `config`, in `out` or in a folder named after `name`."""
    keep_freed_memory()
    task = build_task(config, progress)
    build_loader(config, task)
    # The run folder outlives the shell that named the corpus by a relative path.
    for key in PATH_SETTINGS:
        config = settings.changed(config, key, absolute_setting(key, settings.get(config, key)))
    if progress is not None:
        progress("choosing kernels", 0, 1)
    with _shortage_in_words(config, task.tokenizer.n_vocab):
        config = with_kernels(config, task.tokenizer.n_vocab)
        setup = set_up(config, task)
    run = runs.create(name, config, task.tokenizer, out)
    lock = run.lock()
    trainer = Trainer(setup, save=run.save, control=TrainControl(commands), group=group)
    return Opened(run, trainer, Summarizer(), lock)


def reopen(
    name: str,
    steps: int | None,
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Opened:
    """A run that goes on from its last checkpoint, to another number of steps if given."""
    keep_freed_memory()
    run = runs.find(name)
    lock = run.lock()
    try:
        if not run.has_checkpoint:
            return _anew(run, steps, progress, lock, commands, group)
        return _reopened(run, steps, progress, lock, commands, group)
    except BaseException:
        lock.release()
        raise


def _reopened(
    run: Run,
    steps: int | None,
    progress: ReportProgress | None,
    lock: Lock,
    commands: CommandQueue | None,
    group: ProcessGroup,
) -> Opened:
    path = run.latest()
    checkpoint = ckpt.load(path)
    if steps is not None:
        config = settings.changed(checkpoint.progress.config, "train.steps", steps)
        if steps < checkpoint.progress.step:
            raise ConfigError([f"--steps {steps}: this run has made {checkpoint.progress.step} steps already"])
        checkpoint = replace(checkpoint, progress=replace(checkpoint.progress, config=config))
    task = build_task(checkpoint.progress.config, progress)
    _same_tokenizer(run, task)
    with _shortage_in_words(checkpoint.progress.config, task.tokenizer.n_vocab):
        setup = set_up(checkpoint.progress.config, task, checkpoint)
    with _writing(run):
        run.rewind(checkpoint.progress.step, checkpoint.progress.seconds, path)
    seen = summarize_log(run.downsampled())
    control = TrainControl(commands, undo_stack(seen.changes))
    trainer = Trainer(setup, save=run.save, saved_step=checkpoint.progress.step, control=control, group=group)
    return Opened(run, trainer, seen, lock)


def _anew(
    run: Run,
    steps: int | None,
    progress: ReportProgress | None,
    lock: Lock,
    commands: CommandQueue | None,
    group: ProcessGroup,
) -> Opened:
    """A run that was killed before its first checkpoint begins again, with the same config."""
    if any(isinstance(event, Saved) for event in run.downsampled().events()):
        raise RunError(f"{run.checkpoints}: the checkpoint that the record tells of is gone; put it back to go on")
    config = run.config() if steps is None else settings.changed(run.config(), "train.steps", steps)
    task = build_task(config, progress)
    _same_tokenizer(run, task)
    with _shortage_in_words(config, task.tokenizer.n_vocab):
        setup = set_up(config, task)
    with _writing(run):
        run.begin_again()
    trainer = Trainer(setup, save=run.save, control=TrainControl(commands), group=group)
    return Opened(run, trainer, Summarizer(), lock)


def _same_tokenizer(run: Run, task: Task) -> None:
    """Raises RunError where ids would mean other tokens than before."""
    if task.tokenizer.state() != run.tokenizer().state():
        raise RunError(
            f"{run.path}: its text gives another vocabulary than when the run began, so the weights do not fit; "
            "bring back the text, or start a new run"
        )


@contextmanager
def _writing(run: Run) -> Iterator[None]:
    """Turns an OSError into a RunError that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{run.path}: {advice(error)}, then go on with: tui-lab run --resume {run.path}") from error


def fork(
    name: str, config: Config, progress: ReportProgress | None = None, commands: CommandQueue | None = None
) -> Opened:
    """A new run that goes on from the last checkpoint of run `name` with other settings.

    It begins as the first did, with its record up to there; what `config` changes then is told by Changed events, so
    that whoever reads the record knows which settings held when. Raises RunError where the weights do not fit `config`.
    """
    keep_freed_memory()
    parent = runs.find(name)
    checkpoint = parent.read_latest(ckpt.load)
    step = checkpoint.progress.step
    if config.train.steps < step:
        raise ConfigError([f"train.steps = {config.train.steps}: the run to fork has made {step} steps already"])
    task = build_task(config, progress)
    # The order of the data may be another from here on, so the loader's settings begin here.
    was = build_loader(checkpoint.progress.config, task, from_step=checkpoint.progress.from_step,
                       from_draw=checkpoint.progress.from_draw)  # fmt: skip
    loader = change_loader(was, step, config)
    progressed = replace(checkpoint.progress, config=config, from_step=loader.from_step, from_draw=loader.from_draw)
    setup = set_up(config, task, replace(checkpoint, progress=progressed))
    if task.tokenizer.state() != parent.tokenizer().state():
        raise RunError(f"{parent.name}: a fork keeps the tokenizer and vocabulary of its run; start a new run instead")
    run = runs.create(f"{parent.name}-fork", parent.config(), task.tokenizer)
    lock = run.lock()
    history = up_to(parent.events(), step) + differences(checkpoint.progress.config, config, step)
    seen = summarize(run.record(history))
    trainer = Trainer(setup, save=run.save, control=TrainControl(commands, undo_stack(seen.changes)))
    return Opened(run, trainer, seen, lock)


def differences(old: Config, new: Config, step: int) -> list[Event]:
    """Every setting that changes from `old` to `new`, as events of `step`."""
    pairs = {key: (settings.get(old, key), settings.get(new, key)) for key in settings.fields()}
    return [Changed(step=step, key=key, old=was, new=now) for key, (was, now) in pairs.items() if was != now]


def up_to(events: Iterable[Event], step: int) -> list[Event]:
    """What a run did until `step`, without how it ended and what it saved elsewhere."""
    left_out = ("stopped", "failed", "saved", "paused", "resumed")
    return [event for event in events if event.step <= step and event.kind not in left_out]
