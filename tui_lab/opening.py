"""Open a training: a new run, one that goes on, or a branch of another."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from core import checkpoint as ckpt
from core import runs, settings
from core.budget import is_shortage, shortage
from core.config import Config
from core.errors import ConfigError, RunError
from core.events import Changed, Event
from core.memory import keep_freed_memory
from core.runs import Run
from core.strangers import absolute
from core.summary import Summariser, summarise, summarise_digest
from core.tasks import build_loader, build_task, change_loader
from core.trainer import Trainer
from core.tuning import settled
from data.corpora.tokens import Progress


@dataclass(frozen=True)
class Opened:
    run: Run
    trainer: Trainer
    seen: Summariser
    """Has watched what the run did before, if anything."""


@contextmanager
def _shortage_in_words(config: Config, n_vocab: int) -> Iterator[None]:
    """Raises TrainingError, with what to shrink, where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise shortage(config, n_vocab) from None


def start(source: str, overrides: Sequence[str], out: Path | None, progress: Progress | None = None) -> Opened:
    """A new run of a preset or file.

    Raises ConfigError, DataError, RunError or, where memory runs out, TrainingError before anything is written.
    """
    return begin(source, settings.load(source, overrides), out, progress)


def begin(name: str, config: Config, out: Path | None = None, progress: Progress | None = None) -> Opened:
    """A new run of `config`, in `out` or in a folder named after `name`."""
    keep_freed_memory()
    task = build_task(config, progress)
    build_loader(config, task)
    # The run folder outlives the shell that named the corpus by a relative path.
    if config.data.task == "text" and config.data.path != "bundled":
        config = settings.changed(config, "data.path", str(Path(config.data.path).expanduser().absolute()))
    if config.model.source:
        config = settings.changed(config, "model.source", absolute(config.model.source))
    if progress is not None:
        progress("choosing kernels", 0, 1)
    with _shortage_in_words(config, task.tokenizer.n_vocab):
        config = settled(config, task.tokenizer.n_vocab)
        trainer = Trainer(config, task)
    run = runs.create(name, config, task.tokenizer, out)
    trainer.save_with(run.save)
    return Opened(run, trainer, Summariser())


def reopen(name: str, steps: int | None, progress: Progress | None = None) -> Opened:
    """A run that goes on from its last checkpoint, to another number of steps if given."""
    run = runs.find(name)
    checkpoint = ckpt.load(run.latest())
    if steps is not None:
        config = settings.changed(checkpoint.progress.config, "train.steps", steps)
        if steps < checkpoint.progress.step:
            raise ConfigError([f"--steps {steps}: this run has made {checkpoint.progress.step} steps already"])
        checkpoint = replace(checkpoint, progress=replace(checkpoint.progress, config=config))
    task = build_task(checkpoint.progress.config, progress)
    with _shortage_in_words(checkpoint.progress.config, task.tokenizer.n_vocab):
        trainer = Trainer(checkpoint.progress.config, task, resume=checkpoint, save=run.save)
    run.rewind(checkpoint.progress.step, checkpoint.progress.seconds)
    return Opened(run, trainer, summarise_digest(run.digest()))


def fork(name: str, config: Config, progress: Progress | None = None) -> Opened:
    """A new run that goes on from the last checkpoint of run `name` with other settings.

    It begins as the first did, with its record up to there; what `config` changes then is told by Changed events, so
    that whoever reads the record knows which settings held when. Raises RunError where the weights do not fit `config`.
    """
    parent = runs.find(name)
    checkpoint = ckpt.load(parent.latest())
    step = checkpoint.progress.step
    if config.train.steps < step:
        raise ConfigError([f"train.steps = {config.train.steps}: the run to fork has made {step} steps already"])
    task = build_task(config, progress)
    # The order of the data may be another from here on, so the loader's settings begin here.
    was = build_loader(checkpoint.progress.config, task, from_step=checkpoint.progress.from_step,
                       from_draw=checkpoint.progress.from_draw)  # fmt: skip
    loader = change_loader(was, step, config)
    progressed = replace(checkpoint.progress, config=config, from_step=loader.from_step, from_draw=loader.from_draw)
    trainer = Trainer(config, task, resume=replace(checkpoint, progress=progressed))
    if task.tokenizer.state() != parent.tokenizer().state():
        raise RunError(f"{parent.name}: a fork keeps the tokenizer and vocabulary of its run; start a new run instead")
    run = runs.create(f"{parent.name}-fork", parent.config(), task.tokenizer)
    history = up_to(parent.events(), step) + differences(checkpoint.progress.config, config, step)
    seen = summarise(run.record(history))
    trainer.save_with(run.save)
    return Opened(run, trainer, seen)


def differences(old: Config, new: Config, step: int) -> list[Event]:
    """Every setting that changes from `old` to `new`, as events of `step`."""
    pairs = {key: (settings.get(old, key), settings.get(new, key)) for key in settings.fields()}
    return [Changed(step=step, key=key, old=was, new=now) for key, (was, now) in pairs.items() if was != now]


def up_to(events: Iterable[Event], step: int) -> list[Event]:
    """What a run did until `step`, without how it ended and what it saved elsewhere."""
    left_out = ("stopped", "failed", "saved", "paused", "resumed")
    return [event for event in events if event.step <= step and event.kind not in left_out]
