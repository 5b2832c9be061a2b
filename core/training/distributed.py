"""One run trained by several processes: torchrun starts them, each reads its share of every batch, and
DistributedDataParallel sums their gradients (Li et al. 2020, "PyTorch Distributed").

All ranks execute the same loop iterations: whatever decides how training continues is the same number, or the same
command, on all of them.
"""

import gc
import json
import os
import queue
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses
from tui_lab.core.training.row_losses import RowLosses
from tui_lab.core.training.train_step import (
    TrainStepHooks,
    backward,
    backward_scaled,
    counts,
    global_norm,
    unscaled_gradients,
)
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED
from tui_lab.util.errors import ConfigError, TrainingError
from tui_lab.util.strict_json import dumps

TIMEOUT_SECONDS = 1800.0
"""How long a rank waits for the others (torch's default). A process that exits is noticed at once, by its socket."""
HEARTBEAT_SECONDS = 5.0
"""How often the ranks exchange commands while training is paused."""
_SOURCE_LOCATION = re.compile(r"^\[[^\]]*\]\s*")  # gloo's file and line.
_LOST_CONNECTION = re.compile(r"gloo|nccl|connection|timed out|timeout|peer|broken pipe", re.IGNORECASE)


class ProcessGroup:
    """The processes of a run. The base class is for one process; its methods do nothing."""

    rank = 0
    size = 1

    def attach(self, model: Model, hooks: TrainStepHooks, config: Config) -> None:
        """Give every rank the model of rank 0, and sum their gradients in `backward` from now on.

        Raises ConfigError if the models differ.
        """

    def backward(
        self,
        model: Model,
        hooks: TrainStepHooks,
        x: Tensor,
        y: Tensor,
        micro_batches: int,
        scale: float = 1.0,
        rows: RowLosses | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As train_step.backward, for the batch of which x, y int64 [B, T] are this rank's share.

        The result, and what `rows` gets, is the same on all ranks.
        """
        return backward(model, hooks, x, y, micro_batches, scale, rows)

    def divisor(self, hooks: TrainStepHooks, y: Tensor) -> Tensor:
        """Return what the summed loss of this rank's share, whose targets are y, is divided by."""
        return hooks.divisor(*counts(y))

    def all_reduce(self, numbers: Tensor) -> Tensor:
        """Return the sum over all ranks, element by element."""
        return numbers

    def all_gather(self, data: bytes) -> list[bytes]:
        """Return the bytes that each rank passes, in rank order, on every rank."""
        return [data]

    def commands(self, waiting: cmd.CommandQueue, *, wait: bool) -> list[cmd.Command]:
        """Return the commands that have arrived, the same on all ranks.

        With `wait`, return only once there is one, or a heartbeat is due.
        """
        return _drain(waiting, wait=wait, timeout=None)


SINGLE_PROCESS = ProcessGroup()


class DistributedGroup(ProcessGroup):
    """Several processes, inside `process_group()`. Its calls are collective: every rank makes the same ones."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._ddp: DistributedDataParallel | None = None

    def attach(self, model: Model, hooks: TrainStepHooks, config: Config) -> None:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        group = None
        if backend_for(config, device) == "nccl":
            group = dist.new_group(backend="nccl", timeout=_timeout())
        # The reduction waits forever for parameters without a gradient unless it looks for them, which takes time.
        may_be_unused = bool(config.model.source or config.faults)
        try:
            self._ddp = DistributedDataParallel(
                _LossModule(model, hooks),
                process_group=group,
                find_unused_parameters=may_be_unused,
                gradient_as_bucket_view=True,
            )
        except RuntimeError as error:
            raise ConfigError([f"rank {self.rank}: the processes do not have the same model: {error}"]) from error

    def backward(
        self,
        model: Model,
        hooks: TrainStepHooks,
        x: Tensor,
        y: Tensor,
        micro_batches: int,
        scale: float = 1.0,
        rows: RowLosses | None = None,
    ) -> tuple[Tensor, Tensor]:
        with _translate_errors(self.rank):
            return self._backward(model, hooks, x, y, micro_batches, scale, rows)

    def _backward(
        self,
        model: Model,
        hooks: TrainStepHooks,
        x: Tensor,
        y: Tensor,
        micro_batches: int,
        scale: float,
        rows: RowLosses | None,
    ) -> tuple[Tensor, Tensor]:
        assert self._ddp is not None, "call attach() first"
        hooks.set_mode(model)
        divisor = self.divisor(hooks, y)
        losses: TargetLosses | None = None if rows is None else []
        own_y = y
        if not len(x):  # Fewer rows than ranks: a row without targets has zero gradients.
            x = x.new_zeros(1, x.shape[1])
            y = y.new_full((1, y.shape[1]), IGNORED)
        n = min(micro_batches, len(x))
        loss_sum = torch.zeros((), device=x.device)
        for i, (micro_x, micro_y) in enumerate(zip(x.tensor_split(n), y.tensor_split(n), strict=True)):
            with nullcontext() if i == n - 1 else self.no_sync():
                loss = self._ddp(micro_x, micro_y, losses) / divisor
                backward_scaled(loss, scale)
            loss_sum += loss.detach()
        norm = global_norm(unscaled_gradients(model, scale))
        # All ranks use the norm of rank 0: another processor may round its last bit differently.
        norm_of_rank_0 = norm if self.rank == 0 else torch.zeros_like(norm)
        numbers = torch.stack([loss_sum / self.size, norm_of_rank_0])
        if rows is not None and losses is not None:
            # The rows travel with the other two: another message would take as long.
            rows.set(losses, own_y)
            numbers = torch.cat([numbers, rows.spread(self.rank, self.size).flatten()])
        numbers = self.all_reduce(numbers)
        if rows is not None:
            rows.whole = numbers[2:].view(2, -1)
        return numbers[0], numbers[1]

    def divisor(self, hooks: TrainStepHooks, y: Tensor) -> Tensor:
        # The mean is over the targets of the whole batch, and ranks have different numbers of them. DDP averages over
        # the ranks where a sum is wanted, hence the factor `size`.
        targets, rows = self.all_reduce(torch.stack([torch.as_tensor(n, device=y.device) for n in counts(y)]))
        return hooks.divisor(targets, int(rows)) / self.size

    def destroy(self) -> None:
        """Release the group, so that its threads end with it.

        A group that outlives the interpreter and then frees a tensor aborts the process.
        """
        self._ddp = None
        gc.collect()  # DistributedDataParallel refers to itself.

    def no_sync(self) -> AbstractContextManager[None]:
        """While it lasts, gradients accumulate on each rank and are not reduced."""
        assert self._ddp is not None, "call attach() first"
        return self._ddp.no_sync()

    def all_reduce(self, numbers: Tensor) -> Tensor:
        with _translate_errors(self.rank):
            total = numbers.to("cpu", copy=True)
            dist.all_reduce(total)
            return total.to(numbers.device)

    def commands(self, waiting: cmd.CommandQueue, *, wait: bool) -> list[cmd.Command]:
        """Return the commands of rank 0, and Stop from any rank: a signal may reach one machine only."""
        is_first = self.rank == 0
        waiting_here = _drain(waiting, wait=wait and is_first, timeout=HEARTBEAT_SECONDS)
        data = _to_bytes(waiting_here) if is_first and waiting_here else b""
        stop_here = not is_first and any(isinstance(command, cmd.Stop) for command in waiting_here)
        size_and_stop = torch.tensor([len(data), stop_here])
        with _translate_errors(self.rank):
            dist.all_reduce(size_and_stop, op=dist.ReduceOp.MAX)
        size, stop = size_and_stop.tolist()
        if size:
            data = self.broadcast(data)
        received = waiting_here if is_first else _from_bytes(data) if data else []
        return [*received, cmd.Stop()] if stop else received

    def broadcast(self, data: bytes, source: int = 0) -> bytes:
        """Return the bytes that rank `source` passes, on every rank."""
        with _translate_errors(self.rank):
            size = torch.tensor([len(data) if self.rank == source else 0])
            dist.broadcast(size, source)
            if not int(size):
                return b""
            if self.rank == source:
                content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            else:
                content = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(content, source)
        return content.numpy().tobytes()

    def all_gather(self, data: bytes) -> list[bytes]:
        return [self.broadcast(data, source) for source in range(self.size)]


class _LossModule(nn.Module):
    """The summed loss as a module, since DDP watches the output of its module's forward."""

    def __init__(self, model: Model, hooks: TrainStepHooks) -> None:
        super().__init__()
        self.model = model
        self.hooks = hooks

    def forward(self, x: Tensor, y: Tensor, losses: TargetLosses | None) -> Tensor:
        return self.hooks.loss_sum(self.model, x, y, losses)


def is_distributed() -> bool:
    """Return whether this process was started as one of several, by torchrun or by its environment variables."""
    size = os.environ.get("WORLD_SIZE", "1")
    return "RANK" in os.environ and size.isdigit() and int(size) > 1


@contextmanager
def process_group() -> Iterator[DistributedGroup]:
    """Join the other processes. Raises ConfigError when they do not find each other.

    What the ranks agree on is sent by gloo, between CPUs; `train.backend` is for the gradients.
    """
    # torch.distributed.nn binds the default group when it is imported, so import it while there is none.
    import torch.distributed.nn.functional  # noqa: F401

    try:
        dist.init_process_group("gloo", timeout=_timeout())
    except (RuntimeError, ValueError) as error:
        raise ConfigError([f"rank {os.environ.get('RANK')}: cannot find the other processes: {error}"]) from error
    group = DistributedGroup()
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(_local_rank() % torch.cuda.device_count())
        yield group
    finally:
        group.destroy()
        dist.destroy_process_group()


def backend_for(config: Config, device: torch.device) -> str:
    """Return the backend for the gradients, "gloo" or "nccl". Raises ConfigError for what this machine cannot do."""
    name = config.train.backend
    if device.type == "mps":
        raise ConfigError.of(
            "unavailable",
            "mps trains with a single process; with torchrun use cpu or cuda",
            key="train.device",
            value="mps",
            allowed="cpu, cuda",
        )
    if name == "nccl" and device.type != "cuda":
        raise ConfigError.of(
            "unavailable",
            f"nccl needs train.device = 'cuda', and the device is {device.type}",
            key="train.backend",
            value=name,
            allowed="auto, gloo",
        )
    if name == "gloo" or device.type != "cuda":
        return "gloo"
    if _local_rank() >= torch.cuda.device_count():
        raise ConfigError.of(
            "unavailable",
            f"nccl takes one process per GPU, and this machine has {torch.cuda.device_count()}; "
            "start fewer processes with torchrun --nproc-per-node, or use gloo",
            key="train.backend",
            value=name,
            allowed="gloo",
        )
    return "nccl"


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _timeout() -> timedelta:
    text = os.environ.get("TUI_LAB_RANK_TIMEOUT", str(TIMEOUT_SECONDS))
    try:
        return timedelta(seconds=float(text))
    except ValueError:
        raise ConfigError.of(
            "wrong_type", "must be a number of seconds", key="TUI_LAB_RANK_TIMEOUT", value=text
        ) from None


@contextmanager
def _translate_errors(rank: int) -> Iterator[None]:
    """Turn a lost connection into a TrainingError that says what to do; other errors pass unchanged."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, TrainingError) or not _LOST_CONNECTION.search(str(error)):
            raise
        reason = _SOURCE_LOCATION.sub("", str(error).strip()).splitlines()[0].partition(". ")[0]
        raise TrainingError(
            f"rank {rank}: another process of this run has ended or does not respond ({reason}); "
            "resume from the last checkpoint with --resume, with any number of processes"
        ) from error


def _drain(waiting: cmd.CommandQueue, *, wait: bool, timeout: float | None) -> list[cmd.Command]:
    commands: list[cmd.Command] = []
    if wait:
        try:
            commands.append(waiting.get(timeout=timeout))
        except queue.Empty:
            return commands
    while not waiting.empty():
        commands.append(waiting.get())
    return commands


def _to_bytes(commands: Sequence[cmd.Command]) -> bytes:
    """Encode the commands; one that cannot leave the process becomes null."""
    return dumps(
        [cmd.to_json(command) if type(command) in cmd.SENDABLE.values() else None for command in commands]
    ).encode()


def _from_bytes(data: bytes) -> list[cmd.Command]:
    """Decode the commands. Inspect and Snapshot run on rank 0; here they become an Inspect that does nothing."""
    return [cmd.Inspect(_do_nothing) if record is None else cmd.from_json(record) for record in json.loads(data)]


def _do_nothing(model: Any) -> None:
    return None
