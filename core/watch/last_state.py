"""The last state of a script's model and optimizers, which are gone before the script ends where they live in `main()`.

What the script drops is copied at that moment: in memory if it is small, otherwise to disk, within a budget. Nothing is
kept alive for it but the dictionaries that hold the tensors of an optimizer and the model's own ones, until their owner
is dropped or another training begins.
"""

import os
import shutil
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.training.checkpoint_names import name_of
from tui_lab.core.watch import checkpoints
from tui_lab.core.watch.steps.budget import Budget
from tui_lab.util import files
from tui_lab.util.errors import RunError

MAX_COPY = 2**25
"""Bytes of a state that is copied in memory: 32 MiB."""
SHARE = 0.1
"""Of the script's time, for writing what it drops: a sweep may drop many models."""
UNKNOWN = "the script's model is not known, or the script has dropped it"

TOO_OFTEN = "the script drops models so often that to write each would take more than a tenth of its time"

T = TypeVar("T", nn.Module, Optimizer)


class DropBudget:
    """Decides once for each training whether what the script drops of it may be written; always for the first one."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._budget = Budget(SHARE, clock)
        self._budget.allows()  # The time counts from now on.
        self._is_allowed: bool | None = None

    def next_training(self) -> None:
        """Another training begins."""
        self._is_allowed = None

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Count the time of the block, which writes. Raises RunError if there is none left."""
        if self._is_allowed is None:
            self._is_allowed = self._budget.allows()
        if not self._is_allowed:
            raise RunError.of("unavailable", TOO_OFTEN)
        with self._budget.spend():
            yield


class _Part(ABC, Generic[T]):
    """An object of the script. count: returns the updates so far, which show whether its state is the last one."""

    def __init__(self, obj: T, folder: Path, count: Callable[[], int], budget: DropBudget) -> None:
        self._ref: weakref.ref[T] = weakref.ref(obj, self._dropped)
        self._folder = folder
        self._count = count
        self._budget = budget
        self._pid = os.getpid()
        self._copy: Mapping[str, Any] | None = None
        """Its state from when it was dropped, if that is small."""
        self._written: Path | None = None
        """A temporary folder with that state, if it is large."""
        self._copied_at = -1
        self.problem = UNKNOWN
        """Why the state is not known, if it is not."""

    @property
    def obj(self) -> T | None:
        """The object; None once the script has dropped it."""
        return self._ref()

    @property
    def is_known(self) -> bool:
        """Whether its state after the last update is there, or was copied when it was dropped."""
        return self.obj is not None or self._copied_at == self._count()

    def write(self, folder: Path, number: int = 0) -> None:
        """Write the last state, which is known, into `folder`. number: of an optimizer. Raises OSError."""
        obj = self.obj
        if obj is not None:
            self._write(folder, self._state_of(obj), number)
        elif self._copy is not None:
            self._write(folder, self._copy, number)
        elif self._written is not None:
            for file in self._written.iterdir():
                shutil.move(file, folder / self._name_of(file, number))

    def forget(self) -> None:
        """Remove what was copied, and copy nothing from now on."""
        self._pid = -1
        self._release()
        self._copy = None
        self._copied_at = -1
        if self._written is not None:
            shutil.rmtree(self._written, ignore_errors=True)
            self._written = None

    def _dropped(self, ref: object) -> None:
        """May be called in any thread, by the garbage collector."""
        if os.getpid() != self._pid:  # Forgotten, or in a forked child.
            return
        try:
            state = self._state_of(None)
            if checkpoints.n_bytes(state) <= MAX_COPY:
                self._copy = checkpoints.copied_state(state)
            else:
                with self._budget.spend():
                    self._folder.mkdir(exist_ok=True)
                    self._written = Path(tempfile.mkdtemp(prefix=files.TEMPORARY, dir=self._folder))
                    self._write(self._written, state, 0)
            self._copied_at = self._count()
        except Exception as error:  # It may be half gone. The script must continue.
            self.problem = str(error)
        self._release()

    @abstractmethod
    def _state_of(self, obj: T | None) -> Mapping[str, Any]:
        """Return the state of `obj`; None: of the object that is being dropped. Raises RunError."""

    @abstractmethod
    def _write(self, folder: Path, state: Mapping[str, Any], number: int) -> None:
        """Write a state. Raises OSError."""

    def _name_of(self, written: Path, number: int) -> str:
        """Return the name in the checkpoint of a file that was written with the number 0."""
        return written.name

    @abstractmethod
    def _release(self) -> None:
        """Keep no tensor alive."""


class _ModelPart(_Part[nn.Module]):
    """While a model is dropped, its submodules are still there."""

    def __init__(self, model: nn.Module, folder: Path, count: Callable[[], int], budget: DropBudget) -> None:
        super().__init__(model, folder, count, budget)
        self._own: list[tuple[dict[str, Tensor | None], dict[str, Tensor | None], set[str]]] = [
            (model._parameters, model._buffers, model._non_persistent_buffers_set)  # type: ignore[list-item]
        ]
        modules = model._modules.items()
        self._submodules = {name: weakref.ref(module) for name, module in modules if module is not None}

    def _state_of(self, obj: nn.Module | None) -> Mapping[str, Any]:
        return checkpoints.model_state(self._assembled() if obj is None else obj)

    def _write(self, folder: Path, state: Mapping[str, Any], number: int) -> None:
        checkpoints.write_model(folder, state)

    def _assembled(self) -> nn.Module:
        """Return a module with the same parts. Raises RunError if one is gone."""
        assembled = nn.Module()
        for parameters, buffers, non_persistent in self._own:
            vars(assembled).update(_parameters=parameters, _buffers=buffers, _non_persistent_buffers_set=non_persistent)
        for name, ref in self._submodules.items():
            module = ref()
            if module is None:
                raise RunError.of("unavailable", UNKNOWN)
            assembled._modules[name] = module
        return assembled

    def _release(self) -> None:
        self._own = []


class _OptimizerPart(_Part[Optimizer]):
    def __init__(self, optimizer: Optimizer, folder: Path, count: Callable[[], int], budget: DropBudget) -> None:
        super().__init__(optimizer, folder, count, budget)
        self._state: dict[Tensor, Any] = {}
        self._groups: list[dict[str, Any]] = []
        self.refresh(optimizer)

    def refresh(self, optimizer: Optimizer) -> None:
        """Take the dictionaries that it has now: `load_state_dict` replaces them."""
        self._state = optimizer.state
        self._groups = optimizer.param_groups

    def _state_of(self, obj: Optimizer | None) -> Mapping[str, Any]:
        return checkpoints.optimizer_state(self._state, self._groups) if obj is None else obj.state_dict()

    def _write(self, folder: Path, state: Mapping[str, Any], number: int) -> None:
        checkpoints.write_optimizer(folder, number, state)

    def _name_of(self, written: Path, number: int) -> str:
        return f"{checkpoints.optimizer_name(number)}{written.suffix}"

    def _release(self) -> None:
        self._state = {}
        self._groups = []


class LastState:
    """Told of every update of the weights; `save` writes the state after the last one.

    folder: of the checkpoints, where the state of what is dropped waits, too.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.perf_counter) -> None:
        self._folder = folder
        self._budget = DropBudget(clock)
        self._model: _ModelPart | None = None
        self._optimizers: list[_OptimizerPart] = []
        self._n_updates = 0

    @property
    def exists(self) -> bool:
        """Whether there is a model, or weights that an optimizer has changed; not in a loop that only logs steps."""
        return self._model is not None or self._n_updates > 0

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those that have changed weights in this training, in that order, and that the script still has."""
        return [optimizer for part in self._optimizers if (optimizer := part.obj) is not None]

    def updated(self, model: nn.Module | None, optimizer: Optimizer) -> None:
        """An optimizer has changed the weights of the model: write its state when it is dropped."""
        self._n_updates += 1
        self.watch(model)
        for part in self._optimizers:
            if part.obj is optimizer:
                part.refresh(optimizer)
                return
        self._forget_outdated()
        self._optimizers.append(_OptimizerPart(optimizer, self._folder, self._count, self._budget))

    def _forget_outdated(self) -> None:
        """Forget the optimizers that were dropped before the latest update: theirs is not the last state."""
        for part in self._optimizers:
            if not part.is_known:
                part.forget()
        self._optimizers = [part for part in self._optimizers if part.is_known]

    def watch(self, model: nn.Module | None) -> None:
        """Write the state of the model when it is dropped. None: it is not known, or was dropped."""
        if model is not None and (self._model is None or self._model.obj is not model):
            if self._model is not None:
                self._model.forget()
            self._model = _ModelPart(model, self._folder, self._count, self._budget)

    def save(self, step: int) -> Path:
        """Write a checkpoint of the last state, and forget it.

        An optimizer whose last state is not known is left out. Raises RunError if the weights are not known, OSError.
        """
        try:
            model = self._model
            if model is None or not model.is_known:
                raise RunError.of("unavailable", UNKNOWN if model is None else model.problem)
            path = self._folder / name_of(step)
            with files.new_folder(path) as temporary:
                model.write(temporary)
                for number, part in enumerate(part for part in self._optimizers if part.is_known):
                    part.write(temporary, number)
            return path
        finally:
            self.forget()

    def forget(self) -> None:
        """Keep nothing: another training begins, or the recording has ended."""
        if self._model is not None:
            self._model.forget()
        for part in self._optimizers:
            part.forget()
        self._model = None
        self._optimizers = []
        self._budget.next_training()

    def _count(self) -> int:
        return self._n_updates
