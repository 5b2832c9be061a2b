"""Open a run for training: start a new one, resume one from its checkpoint, or fork one with other settings."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.core.commands import CommandQueue, undo_stack
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.events import Changed, Event, Saved, SaveFailed
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.memory_estimate import is_out_of_memory, out_of_memory_error
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.delete import remove
from tui_lab.core.runs.event_log import events_until
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.fork_fit import require_fit, require_same_tokenizer
from tui_lab.core.runs.lock import Lock
from tui_lab.core.runs.row_log import RowLog
from tui_lab.core.runs.summary import Summarizer, summarize, summarize_log
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.control import TrainControl
from tui_lab.core.training.distributed import SINGLE_PROCESS, ProcessGroup
from tui_lab.core.training.setup import TrainSetup, set_up
from tui_lab.core.training.task_factory import build_loader, build_task, change_loader
from tui_lab.core.training.trainer import Trainer
from tui_lab.core.user_code.import_file import PATH_SETTINGS, absolute_setting
from tui_lab.data.dataset import ReportProgress, Task
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.files import advice

NOT_INHERITED = ("stopped", "failed", "saved", "paused", "resumed")
"""Kinds of events that a fork does not copy: how its parent ended, and the parent's checkpoints."""


@dataclass(frozen=True)
class OpenRun:
    """A run that this process may train.

    summarizer: has seen the run's earlier events; lock: held until `close`; row_log: the trainer writes to it.
    """

    run: Run
    trainer: Trainer
    summarizer: Summarizer
    lock: Lock
    row_log: RowLog

    def close(self) -> None:
        """Release the run folder: other processes may train it."""
        self.row_log.close()
        self.lock.release()


def _opened(
    run: Run,
    lock: Lock,
    setup: TrainSetup,
    summarizer: Summarizer,
    control: TrainControl,
    *,
    saved_step: int | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> OpenRun:
    """Return a run whose trainer writes checkpoints and the losses of rows into its folder."""
    row_log = run.row_log()
    trainer = Trainer(
        setup, save=run.save, keep_rows=row_log.append, saved_step=saved_step, control=control, group=group
    )
    return OpenRun(run, trainer, summarizer, lock, row_log)


def start_from(
    source: str,
    overrides: Sequence[str],
    out: Path | None,
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> OpenRun:
    """Start a new run of a preset or a config file with KEY=VALUE overrides; see `start`."""
    return start(Path(source).stem, settings.load(source, overrides), out, progress, commands, group)


def start(
    name: str,
    config: Config,
    out: Path | None = None,
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> OpenRun:
    """Start a new run of `config`, in `out` or in a folder named after `name`.

    Raises ConfigError, DataError, RunError or, when memory runs out, TrainingError before anything is written.
    """
    keep_freed_memory()
    task = build_task(config, progress)
    build_loader(config, task)
    # The run may be resumed from another folder.
    for key in PATH_SETTINGS:
        config = settings.changed(config, key, absolute_setting(key, settings.get(config, key)))
    if progress is not None:
        progress("choosing kernels", 0, 1)
    with translate_out_of_memory(config, task.tokenizer.n_vocab):
        config = with_kernels(config, task.tokenizer.n_vocab)
        if progress is not None and config.train.compile:
            progress("starting torch.compile", 0, 1)
        setup = set_up(config, task)
    if progress is not None:  # It raises where the run is not wanted any more: then no folder is left.
        progress("creating the run folder", 0, 1)
    with _created(name, config, task, out) as (run, lock):
        return _opened(run, lock, setup, Summarizer(), TrainControl(commands), group=group)


def resume(
    name: str,
    steps: int | None,
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> OpenRun:
    """Resume a run from its last checkpoint. steps: another value for train.steps, if given.

    A run without a checkpoint starts again at step 0. Raises RunError for a damaged run, and what `start` raises.
    """
    keep_freed_memory()
    run = runs.find(name)
    run.refuse_script()
    lock = run.lock()
    try:
        if not run.has_checkpoint:
            return _restart(run, steps, progress, lock, commands, group)
        return _resume(run, steps, progress, lock, commands, group)
    except BaseException:
        lock.release()
        raise


def _resume(
    run: Run,
    steps: int | None,
    progress: ReportProgress | None,
    lock: Lock,
    commands: CommandQueue | None,
    group: ProcessGroup,
) -> OpenRun:
    path = run.latest()
    checkpoint = ckpt.load(path)
    if steps is not None:
        checkpoint = replace(checkpoint, progress=_with_steps(checkpoint.progress, steps))
    config = checkpoint.progress.config
    task = build_task(config, progress)
    _require_same_tokenizer(run, task)
    with translate_out_of_memory(config, task.tokenizer.n_vocab):
        setup = set_up(config, task, checkpoint)
    with _translate_write_errors(run):
        run.rewind(checkpoint.progress.step, checkpoint.progress.seconds, path)
    summarizer = summarize_log(run.downsampled())
    control = TrainControl(commands, undo_stack(summarizer.changes, config))
    return _opened(run, lock, setup, summarizer, control, saved_step=checkpoint.progress.step, group=group)


def _with_steps(progress: ckpt.Progress, steps: int) -> ckpt.Progress:
    """`progress` with another number of steps in all. Raises ConfigError where it is past them."""
    config = settings.changed(progress.config, "train.steps", steps)
    if steps < progress.step:
        raise ConfigError.of("conflict", f"this run has already run {progress.step} steps", key="--steps", value=steps)
    return replace(progress, config=config)


def _restart(
    run: Run,
    steps: int | None,
    progress: ReportProgress | None,
    lock: Lock,
    commands: CommandQueue | None,
    group: ProcessGroup,
) -> OpenRun:
    """Start a run again that was killed before its first checkpoint."""
    if any(isinstance(event, Saved) for event in run.downsampled().events()):
        raise RunError.of(
            "not_found",
            "the last checkpoint in the event log is missing; restore it to resume",
            key=str(run.checkpoints),
        )
    config = run.trainer_config() if steps is None else settings.changed(run.trainer_config(), "train.steps", steps)
    task = build_task(config, progress)
    _require_same_tokenizer(run, task)
    with translate_out_of_memory(config, task.tokenizer.n_vocab):
        setup = set_up(config, task)
    with _translate_write_errors(run):
        run.begin_again()
    return _opened(run, lock, setup, Summarizer(), TrainControl(commands), group=group)


def fork(
    name: str,
    config: Config,
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
    at_step: int | None = None,
) -> OpenRun:
    """Start a new run from a checkpoint of the run `name` with other settings.

    at_step: which checkpoint, see `Run.checkpoint_at`. The new run starts with the config and the events of its parent
    up to there. Changed events follow for what `config` changes, so that the event log has the settings of every step.
    Raises ConfigError or RunError where the weights do not fit `config`.
    """
    keep_freed_memory()
    parent = runs.find(name)
    parent.refuse_script()
    path, checkpoint = parent.read_checkpoint(at_step, lambda path: (path, ckpt.load(path)))
    step = checkpoint.progress.step
    if config.train.steps < step:
        raise ConfigError.of(
            "conflict",
            f"the checkpoint to fork has already run {step} steps",
            key="train.steps",
            value=config.train.steps,
        )
    require_fit(checkpoint.progress.config, config, step)
    task = build_task(config, progress)
    require_same_tokenizer(checkpoint.progress.config, config, parent, task.tokenizer)
    with translate_out_of_memory(config, task.tokenizer.n_vocab):
        setup = set_up(config, task, _with_config(checkpoint, config, task))
    past = events_until(parent.events(), step, str(path.relative_to(parent.path)))
    events = [event for event in past if event.kind not in NOT_INHERITED]
    with _created(f"{parent.name}-fork", parent.trainer_config(), task) as (run, lock):
        changes = _changes(checkpoint.progress.config, config, step)
        summarizer = summarize(_saved(run.record([*events, *changes])))
        parent.row_log().copy_until(step, run.row_log())
        return _opened(run, lock, setup, summarizer, TrainControl(commands, undo_stack(summarizer.changes, config)))


@contextmanager
def _created(name: str, config: Config, task: Task, out: Path | None = None) -> Iterator[tuple[Run, Lock]]:
    """Create a run, and hold its lock while it is opened; an error removes it. Raises RunError where none can be."""
    run = runs.create(name, config, task.tokenizer, out)
    lock = run.lock()
    try:
        yield run, lock
    except BaseException as error:
        lock.release()
        with suppress(RunError, OSError):  # A folder with files of the user stays.
            remove(run.path)
        if isinstance(error, OSError):
            message = f"cannot create a run here: {advice(error)}"
            raise RunError.of("unwritable", message, key=str(run.path)) from error
        raise


def _saved(events: Iterable[Event]) -> Iterator[Event]:
    """Pass on the events of `Run.record`. Raises RunError where one cannot be written."""
    for event in events:
        if isinstance(event, SaveFailed):
            raise RunError.of("unwritable", event.message, key=event.path)
        yield event


def _with_config(checkpoint: ckpt.Checkpoint, config: Config, task: Task) -> ckpt.Checkpoint:
    """Return the checkpoint with another config, whose order of examples starts at the checkpoint's step."""
    progress = checkpoint.progress
    parents_loader = build_loader(progress.config, task, from_step=progress.from_step, from_draw=progress.from_draw)
    loader = change_loader(parents_loader, progress.step, config)
    changed = replace(progress, config=config, from_step=loader.from_step, from_draw=loader.from_draw)
    return replace(checkpoint, progress=changed)


def _changes(old: Config, new: Config, step: int) -> Iterable[Event]:
    """Yield a Changed event of `step` for every setting that differs."""
    for key, new_value in settings.differences(old, new).items():
        yield Changed(step=step, key=key, old=settings.get(old, key), new=new_value)


def _require_same_tokenizer(run: Run, task: Task) -> None:
    """Raises RunError where token ids have changed their meaning since the run started."""
    if task.tokenizer.state() != run.tokenizer().state():
        raise RunError.of(
            "conflict",
            "the text now has a different vocabulary, which does not fit the weights; restore the text, or start a "
            "new run",
            key=str(run.path),
        )


@contextmanager
def translate_out_of_memory(config: Config, n_vocab: int) -> Iterator[None]:
    """Raises TrainingError that names what to reduce when out of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory_error(config, n_vocab) from None


@contextmanager
def _translate_write_errors(run: Run) -> Iterator[None]:
    """Turns an OSError into a RunError with what to do."""
    try:
        yield
    except OSError as error:
        raise RunError.of(
            "unwritable", f"{advice(error)}, then resume with: tui-lab run --resume {run.path}", key=str(run.path)
        ) from error
