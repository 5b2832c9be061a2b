"""The trainer: an iterator of events, steered by a queue of commands. `events` is the lifecycle, `train_step` the
science."""

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.device import choose_device, seed_draws, use_threads
from tui_lab.core.kernels.memory_estimate import check_memory, is_out_of_memory, out_of_memory_error
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training import dead_units
from tui_lab.core.training.checkpoint import Checkpoint, Progress
from tui_lab.core.training.distributed import SINGLE_PROCESS, World
from tui_lab.core.training.evaluation import evaluate
from tui_lab.core.training.model_factory import build_model, hooks_of, optimizers_of
from tui_lab.core.training.optim import lr_at, set_lr, set_weight_decay
from tui_lab.core.training.task_factory import LOADER_KEYS, build_loader, change_loader
from tui_lab.core.training.train_step import apply, dropout_seed
from tui_lab.core.training.update_ratio import EVERY, watch_update
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import Task
from tui_lab.util.errors import ConfigError, DataError, TrainingError
from tui_lab.util.files import advice

Save = Callable[[Checkpoint], str]
EMA = 0.9


class Trainer:
    """Trains one model. Iterate over `events()` in any one thread; put commands from any other.

    The state that a checkpoint keeps is `progress` (frozen, replaced at every step), the weights and the
    optimizer. Raises ConfigError, DataError or RunError when it cannot be built.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        *,
        resume: Checkpoint | None = None,
        save: Save | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.commands: cmd.CommandQueue = queue.SimpleQueue()
        self.task, self.world = task, SINGLE_PROCESS
        self.progress = resume.progress if resume else Progress(config)
        self._save, self._clock = save, clock
        self.resumed = resume is not None
        self._pending: deque[cmd.Command] = deque()
        self.undoable: list[ev.Changed] = []
        """The changes that Undo takes back, the last first; whoever resumes a run may put its earlier ones here."""
        self._paused, self._steps_left, self._stop_asked = False, 0, False
        self._saved_at = self.progress.step if resume else -1
        self.unwritten = False
        """Whether the last checkpoint that was due could not be saved."""
        self.threads = use_threads(config.train.threads)
        self.device = choose_device(config.train.device)
        at = self.progress
        if resume:
            ckpt.check_fits(self.config, task.tokenizer.n_vocab, resume.model)
        self.loader = build_loader(self.config, task, from_step=at.from_step, from_draw=at.from_draw)
        self.model = build_model(with_kernels(self.config, task.tokenizer.n_vocab), task.tokenizer.n_vocab).to(
            self.device
        )
        self.optimizers = optimizers_of(self.config, self.model)
        self.hooks = hooks_of(self.config)
        self._best, self._restored = resume.best if resume else None, False
        if resume:
            ckpt.restore_model(self.model, resume.model)
            ckpt.restore_optimizers(self.optimizers, resume.optimizer)

    @property
    def config(self) -> Config:
        """The settings in force now, live changes included."""
        return self.progress.config

    @property
    def step(self) -> int:
        return self.progress.step

    def save_with(self, save: Save) -> None:
        """Where checkpoints go from now on: a run folder may be made only once the trainer could be built."""
        self._save, self._saved_at = save, -1

    def join(self, world: World) -> None:
        """Train as one of the processes of `world`, all of which call this with the same state, before `events`."""
        self.world = world
        self.loader = replace(self.loader, share=(world.rank, world.size))
        world.unite(self.model, self.hooks, self.config)

    def events(self) -> Iterator[ev.Event]:
        """Train until the last step, the target, patience's end, Stop or a failure; the last event says which."""
        yield self._started()
        failure = ""
        try:
            while (reason := self._over()) is None:
                yield from self._obey()
                if self._stop_asked or self._paused:
                    continue
                if self._evaluation_due():
                    yield from self._evaluate()
                elif self._checkpoint_due():
                    yield from self._checkpoint()
                else:
                    yield self.train_step()
                    self._count_down()
            yield from self._checkpoint(again=self.unwritten)
            yield ev.Stopped(step=self.step, reason=reason, restored=self._restore_best())
        except Exception as error:
            # A mistake of ours is told by its traceback; whoever wrote the model is told where it went wrong.
            if not (isinstance(error, RuntimeError | MemoryError) or self.config.model.source):
                raise
            failure = self._in_words(error)
        # Outside of the handler, where the error no longer holds on to all that its step had in memory.
        if failure:
            self.model.zero_grad(set_to_none=True)
            yield from self._last_checkpoint()
            yield ev.Failed(step=self.step, message=failure)

    def _in_words(self, error: Exception) -> str:
        if is_out_of_memory(error):
            return str(out_of_memory_error(self.config, self.task.tokenizer.n_vocab))
        if isinstance(error, RuntimeError):
            return str(error) or type(error).__name__
        return f"{self.config.model.source} raised {type(error).__name__}: {error}"

    def _restore_best(self) -> int | None:
        """A run that may stop early ends with its best weights in the model, once the last ones are saved, so that it
        can still go on from where it was. The update that they are of."""
        if self._best is None or not self.config.train.patience or self.unwritten:
            return None
        ckpt.restore_model(self.model, self._best)
        self._restored = True
        return self.progress.best_step

    def _whose(self) -> cmd.WeightsInfo:
        best = self.progress.best_step if self._restored else None
        return cmd.WeightsInfo(self.step) if best is None else cmd.WeightsInfo(best, best=True)

    def run_after_end(self, command: cmd.Command) -> Iterator[ev.Event]:
        """Obey what still makes sense after the last event: a look at the model, a copy of it, a save that failed."""
        if isinstance(command, cmd.Snapshot | cmd.Inspect) or (isinstance(command, cmd.Checkpoint) and self.unwritten):
            yield from self._execute(command)

    def train_step(self) -> ev.StepDone:
        """One update. Raises TrainingError before it would touch the weights with what is not finite."""
        began, step, config = self._clock(), self.step, self.config
        measuring = step % EVERY == 0
        batch = self.loader.batch(step)
        measured: dict[str, float | None] = {"data_seconds": max(0.0, self._clock() - began)} if measuring else {}
        # Contiguous, since a model of the user's may call view(-1); rows of a text are slices of a longer one.
        x, y = (torch.from_numpy(array).to(self.device).contiguous() for array in (batch.x, batch.y))
        lr = lr_at(step, config.train.steps, config.optim) * self.hooks.lr_factor
        set_lr(self.optimizers, lr)
        seed_draws(self.device, dropout_seed(config.train.seed, step, self.world.rank))
        dead = dead_units.watch_units(self.model) if step % dead_units.EVERY == 0 else lambda: None
        loss, norm = self.world.backward(self.model, self.hooks, x, y, config.train.accumulate)
        loss_value, norm_value = torch.stack([loss, norm]).tolist()
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            raise TrainingError(
                f"the {'gradient' if math.isfinite(loss_value) else 'loss'} of update {step} is not finite (loss "
                f"{loss_value}, gradient norm {norm_value}, learning rate {lr:g}); the weights are those before it. "
                "A smaller optim.lr or an optim.grad_clip of 1 is the usual cure"
            )
        ratio = watch_update(self.model) if measuring else lambda: None
        apply(self.model, self.hooks, self.optimizers, norm_value, config.optim.grad_clip)
        measured |= {"update_ratio": ratio(), "dead_units": dead()}
        return self._count(loss_value, norm_value, lr, batch.epoch, self.loader.drawn * x.shape[1], began, measured)

    def _count(
        self, loss: float, norm: float, lr: float, epoch: int, tokens: int, began: float,
        measured: dict[str, float | None],
    ) -> ev.StepDone:  # fmt: skip
        seconds = max(0.0, self._clock() - began)  # A clock may be set back.
        was = self.progress
        ema = loss if was.loss_ema is None else EMA * was.loss_ema + (1 - EMA) * loss
        self.progress = replace(
            was, step=was.step + 1, tokens=was.tokens + tokens, seconds=was.seconds + seconds, loss_ema=ema
        )
        return ev.StepDone(
            step=self.step,
            loss=loss,
            loss_ema=ema,
            lr=lr,
            grad_norm=norm,
            epoch=epoch,
            tokens=self.progress.tokens,
            seconds=seconds,
            tokens_per_s=tokens / seconds if seconds > 0 else 0.0,
            update_ratio=measured.get("update_ratio"),
            dead_units=measured.get("dead_units"),
            data_seconds=measured.get("data_seconds"),
        )

    def _started(self) -> ev.Started:
        return ev.Started(
            step=self.step,
            steps=self.config.train.steps,
            parameters=sum(p.numel() for p in self.model.parameters()),
            n_vocab=self.model.n_vocab,
            train_examples=self.task.train.n_examples,
            val_examples=self.task.val.n_examples,
            device=str(self.device) + (f" × {self.world.size} processes" if self.world.size > 1 else ""),
            threads=self.threads,
            resumed=self.resumed,
            faults=self.config.faults,
        )

    def _over(self) -> ev.StopReason | None:
        if self._stop_asked:
            return "stopped"
        train = self.config.train
        if train.patience and self.progress.worse_evaluations >= train.patience:
            return "patience"
        if self._evaluation_due() or self._pending:
            return None
        return "target" if self._target_reached() else "done" if self.step >= train.steps else None

    def _target_reached(self) -> bool:
        target, loss = self.config.train.target_loss, self.progress.loss_ema
        return target > 0 and loss is not None and loss <= target

    def _evaluation_due(self) -> bool:
        train, step = self.config.train, self.step
        due = (
            step >= train.steps
            or self._target_reached()
            or (train.eval_every > 0 and step > 0 and step % train.eval_every == 0)
        )
        return due and self.progress.evaluated_at != step

    def _checkpoint_due(self) -> bool:
        every = self.config.train.checkpoint_every
        return (
            self._save is not None
            and every > 0
            and self.step > 0
            and self.step % every == 0
            and self._saved_at != self.step
        )

    def _count_down(self) -> None:
        if self._steps_left:
            self._steps_left -= 1
            if self._steps_left == 0:
                self._pending.append(cmd.Pause())

    def _obey(self) -> Iterator[ev.Event]:
        """Take the commands that have come; while paused, wait for the next."""
        self._take(wait=self._paused and not self._pending)
        while self._pending and not self._stop_asked:
            yield from self._execute(self._pending.popleft())

    def _take(self, *, wait: bool) -> None:
        self._pending.extend(self.world.commands(self.commands, wait=wait))

    def _stop_requested(self) -> bool:
        self._take(wait=False)
        return any(isinstance(command, cmd.Stop) for command in self._pending)

    def _execute(self, command: cmd.Command) -> Iterator[ev.Event]:
        match command:
            case cmd.Pause():
                if not self._paused:
                    self._paused, self._steps_left = True, 0
                    yield ev.Paused(step=self.step)
            case cmd.Resume() | cmd.Step():
                self._steps_left = command.n if isinstance(command, cmd.Step) else 0
                if self._paused:
                    self._paused = False
                    yield ev.Resumed(step=self.step)
            case cmd.Set() | cmd.Scale() | cmd.Shift() | cmd.Cycle() | cmd.Undo():
                yield from self._change(command)
            case cmd.Evaluate():
                yield from self._evaluate()
            case cmd.Checkpoint():
                yield from self._checkpoint(again=True)
            case cmd.Snapshot(receive):
                yield from self._snapshot(receive)
            case cmd.Inspect(look):
                yield from self._inspect(look)
            case cmd.Stop():
                self._stop_asked = True

    def _snapshot(self, receive: Callable[[dict[str, torch.Tensor], cmd.WeightsInfo], None]) -> Iterator[ev.Event]:
        try:
            weights = ckpt.copy_weights(self.model.state_dict())
        except (RuntimeError, MemoryError) as error:
            yield ev.Warned(
                step=self.step, message=f"no copy of the weights could be made: {str(error) or 'no memory'}"
            )
        else:
            receive(weights, self._whose())

    def _inspect(self, look: Callable[[Model], None]) -> Iterator[ev.Event]:
        """A look that fails is the looker's fault: training goes on."""
        self.model.eval()
        try:
            with torch.no_grad():
                look(self.model)
        except Exception as error:
            yield ev.Warned(step=self.step, message=f"looking at the model failed: {error!r}")

    def _change(self, command: cmd.Change) -> Iterator[ev.Event]:
        """Change a live setting, or warn why not; nothing where it has that value already."""
        try:
            key, value = cmd.target(command, self.config, self.undoable)
            old = settings.get(self.config, key)
            config = settings.changed(self.config, key, value)
            if (new := settings.get(config, key)) == old:
                return
            loader = change_loader(self.loader, self.step, config)
            check_memory(config, self.task.tokenizer.n_vocab, on_cpu=self.device.type == "cpu")
        except (ConfigError, DataError) as error:
            yield ev.Warned(step=self.step, message=str(error))
            return
        if key in LOADER_KEYS:
            self.loader = loader
        self.progress = replace(
            self.progress, config=config, from_step=self.loader.from_step, from_draw=self.loader.from_draw
        )
        self.model.set_dropout(config.model.dropout)
        set_weight_decay(self.optimizers, config.optim.weight_decay)
        self._saved_at = -1
        change = ev.Changed(step=self.step, key=key, old=old, new=new)
        if isinstance(command, cmd.Undo):
            self.undoable.pop()
        else:
            self.undoable.append(change)
        yield change

    def _evaluate(self) -> Iterator[ev.Event]:
        """Validate, keep the best weights; nothing at all when Stop comes in between."""
        limit = self.config.train.eval_examples
        found = evaluate(self.model, self.task, limit, self.device, stop=self._stop_requested, world=self.world)
        if found is None:
            return
        was = self.progress
        best = math.isfinite(found.loss) and (was.best_val_loss is None or found.loss < was.best_val_loss)
        again = was.evaluated_at == self.step
        worse = 0 if best else was.worse_evaluations + (0 if again else 1)
        self.progress = replace(was, evaluated_at=self.step, worse_evaluations=worse)
        if best:
            self._best = ckpt.copy_weights(self.model.state_dict())
            self.progress = replace(self.progress, best_val_loss=found.loss, best_step=self.step)
        self._saved_at = -1
        yield ev.Evaluated(
            step=self.step,
            val_loss=found.loss,
            exact_match=found.exact_match,
            perplexity=found.perplexity,
            examples=found.examples,
            best=best,
            since_best=worse,
        )

    def _last_checkpoint(self) -> Iterator[ev.Event]:
        """A checkpoint after a failure, which may leave too little memory to copy the weights."""
        try:
            yield from self._checkpoint(again=self.unwritten)
        except (RuntimeError, MemoryError) as error:
            words = f"checkpoint not saved: {str(error) or 'no memory'}; the last one is intact"
            yield ev.Warned(step=self.step, message=words)

    def _checkpoint(self, *, again: bool = False) -> Iterator[ev.Event]:
        """Save, unless this very state is saved already. A save that fails is told, and not the end."""
        if self._save is None or (self._saved_at == self.step and not again):
            return
        if self.world.rank:  # Rank 0 writes; the others take the same turns, so that none waits for another.
            self._saved_at = self.step
            return
        state = Checkpoint(
            progress=self.progress,
            model=ckpt.copy_weights(self.model.state_dict()),
            optimizer=ckpt.optimizer_tensors(self.optimizers),
            best=self._best,
        )
        try:
            path = self._save(state)
        except OSError as error:
            self._saved_at, self.unwritten = self.step, True
            message = f"checkpoint not saved: {advice(error)}; the last one is intact"
            yield ev.SaveFailed(step=self.step, message=message, path=str(error.filename or ""))
            return
        self._saved_at, self.unwritten = self.step, False
        yield ev.Saved(step=self.step, path=path)
