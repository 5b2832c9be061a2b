"""One training by several processes: torchrun starts them, each reads its share of every batch, and
DistributedDataParallel brings their gradients together (Li et al. 2020, "PyTorch Distributed").

Ranks never part: whatever decides how a training goes on is the same number, or the same command, on all of them.
"""

import gc
import json
import os
import queue
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.training.train_step import TrainStepHooks, backward, counts, global_norm
from tui_lab.data.dataset import IGNORED
from tui_lab.util.errors import ConfigError, TrainingError
from tui_lab.util.strict_json import dumps

TIMEOUT_SECONDS = 1800.0
"""How long a rank waits for the others (torch's own default). One that has ended is noticed at once, by its socket."""
HEARTBEAT_SECONDS = 5.0
"""How often the ranks hear of each other while the training is paused."""
SHARED = {command.__name__: command for command in (cmd.Pause, cmd.Resume, cmd.Step, cmd.Set, cmd.Scale,
                                                    cmd.Shift, cmd.Cycle, cmd.Undo, cmd.Evaluate, cmd.Checkpoint,
                                                    cmd.Stop)}  # fmt: skip
_PLACE = re.compile(r"^\[[^\]]*\]\s*")  # Where in gloo's source it was raised.
_LOST = re.compile(r"gloo|nccl|connection|timed out|timeout|peer|broken pipe", re.IGNORECASE)


class World:
    """The processes of a training; this class is one alone, and costs nothing."""

    rank, size = 0, 1

    def unite(self, model: nn.Module, hooks: TrainStepHooks, config: Config) -> None:
        """Give every rank the model of rank 0, and let their gradients come together from now on."""

    def backward(
        self, model: nn.Module, hooks: TrainStepHooks, x: Tensor, y: Tensor, parts: int
    ) -> tuple[Tensor, Tensor]:
        """As train_step's, for the batch of which x, y int64 [B, T] are this rank's share; the same on all ranks."""
        return backward(model, hooks, x, y, parts)

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all ranks, element by element."""
        return numbers

    def commands(self, waiting: cmd.CommandQueue, *, wait: bool) -> list[cmd.Command]:
        """What has come, the same on all ranks; with `wait`, only once something has (or a heartbeat is due)."""
        return _drain(waiting, wait=wait, timeout=None)


SINGLE_PROCESS = World()


class Ranks(World):
    """One of several processes, inside `joined()`. Its calls are collective: every rank makes the same ones."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._replica: DistributedDataParallel | None = None

    def unite(self, model: nn.Module, hooks: TrainStepHooks, config: Config) -> None:
        """Raises ConfigError where the models differ."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        group = None
        if backend_for(config, device) == "nccl":
            group = dist.new_group(backend="nccl", timeout=_timeout())
        # Parameters without a gradient make the reduction wait for ever, unless it looks for them, which takes time.
        incomplete = bool(config.model.source or config.faults)
        try:
            self._replica = DistributedDataParallel(
                _Loss(model, hooks), process_group=group, find_unused_parameters=incomplete,
                gradient_as_bucket_view=True,
            )  # fmt: skip
        except RuntimeError as error:
            raise ConfigError([f"rank {self.rank}: the processes do not have the same model: {error}"]) from error

    def backward(
        self, model: nn.Module, hooks: TrainStepHooks, x: Tensor, y: Tensor, parts: int
    ) -> tuple[Tensor, Tensor]:
        with _in_words(self.rank):
            return self._backward(model, hooks, x, y, parts)

    def _backward(
        self, model: nn.Module, hooks: TrainStepHooks, x: Tensor, y: Tensor, parts: int
    ) -> tuple[Tensor, Tensor]:
        assert self._replica is not None, "unite() comes first"
        hooks.mode(model)
        # The mean is over the targets of the whole batch, of which each rank has another number. DDP takes the mean
        # over the ranks where a sum is wanted, hence the size.
        targets, rows = self.total(torch.stack([torch.as_tensor(n, device=y.device) for n in counts(y)]))
        divisor = hooks.divisor(targets, int(rows)) / self.size
        if not len(x):  # Fewer rows than ranks: a row without targets has zero gradients.
            x, y = x.new_zeros(1, x.shape[1]), y.new_full((1, y.shape[1]), IGNORED)
        parts = min(parts, len(x))
        loss_sum = torch.zeros((), device=x.device)
        for i, (x_part, y_part) in enumerate(zip(x.tensor_split(parts), y.tensor_split(parts), strict=True)):
            with nullcontext() if i == parts - 1 else self.apart():
                loss = self._replica(x_part, y_part) / divisor
                loss.backward()
            loss_sum += loss.detach()
        norm = global_norm([p.grad for p in model.parameters() if p.grad is not None])
        # The norm of rank 0 holds for all: another processor may round its last bit differently.
        found = self.total(torch.stack([loss_sum / self.size, norm if self.rank == 0 else torch.zeros_like(norm)]))
        return found[0], found[1]

    def leave(self) -> None:
        """Let go of the group, so that its threads end with it.

        One that outlives Python's own end, and then lets go of a tensor, aborts the process.
        """
        self._replica = None
        gc.collect()  # DistributedDataParallel points at itself.

    def apart(self) -> AbstractContextManager[None]:
        """While it lasts, gradients add up on each rank and do not come together."""
        assert self._replica is not None, "unite() comes first"
        return self._replica.no_sync()

    def total(self, numbers: Tensor) -> Tensor:
        with _in_words(self.rank):
            here = numbers.to("cpu", copy=True)
            dist.all_reduce(here)
            return here.to(numbers.device)

    def commands(self, waiting: cmd.CommandQueue, *, wait: bool) -> list[cmd.Command]:
        """Those of rank 0, and Stop from any: a signal may reach one machine alone."""
        first = self.rank == 0
        own = _drain(waiting, wait=wait and first, timeout=HEARTBEAT_SECONDS)
        told = _to_bytes(own) if first and own else b""
        wishes = torch.tensor([len(told), not first and any(isinstance(command, cmd.Stop) for command in own)])
        with _in_words(self.rank):
            dist.all_reduce(wishes, op=dist.ReduceOp.MAX)
        size, stop = wishes.tolist()
        if size:
            told = self.spread(told)
        given = own if first else _from_bytes(told) if told else []
        return [*given, cmd.Stop()] if stop else given

    def spread(self, data: bytes, source: int = 0) -> bytes:
        """The bytes that rank `source` has, on every rank."""
        with _in_words(self.rank):
            size = torch.tensor([len(data) if self.rank == source else 0])
            dist.broadcast(size, source)
            if not int(size):
                return b""
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.rank == source else None
            content = torch.empty(int(size), dtype=torch.uint8) if content is None else content
            dist.broadcast(content, source)
        return content.numpy().tobytes()

    def gathered(self, data: bytes) -> list[bytes]:
        """What each rank has, in their order, on every rank."""
        return [self.spread(data, source) for source in range(self.size)]


class _Loss(nn.Module):
    """The summed loss as a module, since DDP looks at what its module's forward gives."""

    def __init__(self, model: nn.Module, hooks: TrainStepHooks) -> None:
        super().__init__()
        self.model, self.hooks = model, hooks

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.hooks.loss_sum(self.model, x, y)


def several() -> bool:
    """Whether torchrun, or whoever sets its variables, started this process as one of several."""
    size = os.environ.get("WORLD_SIZE", "1")
    return "RANK" in os.environ and size.isdigit() and int(size) > 1


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process among its others. Raises ConfigError when they do not find each other.

    What the ranks agree on goes by gloo, between CPUs; where the gradients go is `train.backend`.
    """
    # Its functions have the group of that moment as a default, and so for good: none must be there when it is imported.
    import torch.distributed.nn.functional  # noqa: F401

    try:
        dist.init_process_group("gloo", timeout=_timeout())
    except (RuntimeError, ValueError) as error:
        raise ConfigError([f"rank {os.environ.get('RANK')}: the other processes are not found: {error}"]) from error
    ranks = Ranks()
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(_local_rank() % torch.cuda.device_count())
        yield ranks
    finally:
        ranks.leave()
        dist.destroy_process_group()


def backend_for(config: Config, device: torch.device) -> str:
    """Who carries the gradients: "gloo" or "nccl". Raises ConfigError for what cannot be on this machine."""
    name = config.train.backend
    if device.type == "mps":
        raise ConfigError(["train.device = 'mps': one process only; allowed with torchrun are cpu and cuda"])
    if name == "nccl" and device.type != "cuda":
        raise ConfigError([f"train.backend = 'nccl': it needs train.device cuda, and this is {device.type}; "
                           "allowed here: auto, gloo"])  # fmt: skip
    if name == "gloo" or device.type != "cuda":
        return "gloo"
    if _local_rank() >= torch.cuda.device_count():
        raise ConfigError(
            [f"torchrun --nproc-per-node: nccl takes one process for each GPU, and this machine has "
             f"{torch.cuda.device_count()}; or train.backend = 'gloo'"]
        )  # fmt: skip
    return "nccl"


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _timeout() -> timedelta:
    text = os.environ.get("TUI_LAB_RANK_TIMEOUT", str(TIMEOUT_SECONDS))
    try:
        return timedelta(seconds=float(text))
    except ValueError:
        raise ConfigError([f"TUI_LAB_RANK_TIMEOUT = {text!r}: allowed is a number of seconds"]) from None


@contextmanager
def _in_words(rank: int) -> Iterator[None]:
    """An error of the transport says what it means; any other one stays as it is."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, TrainingError) or not _LOST.search(str(error)):
            raise
        reason = _PLACE.sub("", str(error).strip()).splitlines()[0].partition(". ")[0]
        raise TrainingError(
            f"rank {rank}: another process of this training has ended or does not answer ({reason}); "
            "go on from the last checkpoint by --resume, with as many processes as you like"
        ) from error


def _drain(waiting: cmd.CommandQueue, *, wait: bool, timeout: float | None) -> list[cmd.Command]:
    found: list[cmd.Command] = []
    if wait:
        try:
            found.append(waiting.get(timeout=timeout))
        except queue.Empty:
            return found
    while not waiting.empty():
        found.append(waiting.get())
    return found


def _to_bytes(commands: Sequence[cmd.Command]) -> bytes:
    return dumps([[type(command).__name__, _plain(command)] for command in commands]).encode()


def _plain(command: cmd.Command) -> dict[str, Any]:
    return vars(command) if type(command).__name__ in SHARED else {}


def _from_bytes(data: bytes) -> list[cmd.Command]:
    """The commands; in the place of a look or a copy, which are rank 0's alone, a look at nothing."""
    nothing: Callable[[Any], None] = lambda model: None  # noqa: E731
    return [SHARED[name](**values) if name in SHARED else cmd.Inspect(nothing) for name, values in json.loads(data)]
