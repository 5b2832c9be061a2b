"""Observes more of a loop than the order of its calls; RecordBuilder calls its methods."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.loop.averages import SEARCH_AT, AverageWatch
from tui_lab.core.doctor.loop.carried_states import StateWatch
from tui_lab.core.doctor.loop.criterion_inputs import CriterionInputs
from tui_lab.core.doctor.loop.hooks import FURTHER_CRITERIA, UnusedHooks
from tui_lab.core.doctor.loop.idle_optimizers import IdleWatch
from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.loop.loaders import LoaderParts, shuffles
from tui_lab.core.doctor.loop.masks import MaskWatch
from tui_lab.core.doctor.loop.observed import Observed, ScheduleUse
from tui_lab.core.doctor.loop.rebuilt_scalers import ScalerWatch
from tui_lab.core.doctor.loop.repeated_items import RepeatedItemsWatch
from tui_lab.core.doctor.loop.rounding import RoundingWatch
from tui_lab.core.doctor.loop.self_averages import SelfAverageWatch
from tui_lab.core.doctor.loop.shared_rows import RowsWatch
from tui_lab.core.doctor.loop.target_counts import TargetCounts
from tui_lab.core.doctor.loop.unused_data import UnusedDataWatch


class Observer:
    """Forwards events of the loop to the watchers.

    A watcher that raises is not called again, and `notes` has its error.
    """

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}
        self._disabled: set[str] = set()
        self._criteria = CriterionInputs()
        self._states = StateWatch()
        self._averages = AverageWatch()
        self._self_averages = SelfAverageWatch()
        self._rounding = RoundingWatch()
        self._rows = RowsWatch()
        self._loaders = LoaderParts()
        self._masks = MaskWatch()
        self._targets = TargetCounts()
        self._idle = IdleWatch()
        self._unused = UnusedDataWatch()
        self._repeated = RepeatedItemsWatch()
        self._scalers = ScalerWatch()
        self._schedules: dict[int, tuple[Any, list[int], str]] = {}
        self._n_updates = 0

    @property
    def observed(self) -> Observed:
        """Everything so far."""
        return Observed(
            criteria=tuple(self._criteria.calls),
            loaders=self._loaders.of_each_dataset,
            carried=self._states.results,
            averages=self._guarded("averages", lambda: self._averages.results(self._n_updates)) or (),
            schedules=tuple(ScheduleUse(s, tuple(updates), line) for s, updates, line in self._schedules.values()),
            rounding=self._rounding.results,
            shared_rows=self._guarded("rows", lambda: self._rows.results) or (),
            training_loaders=self._loaders.training,
            validation_loaders=self._loaders.validation,
            masks=tuple(self._masks.masks),
            constant_loss=None if "target counts" in self._disabled else self._targets.constant_loss,
            idle=() if "idle optimizers" in self._disabled else self._idle.results,
            unused=self._unused.result,
            self_averages=self._self_averages.results,
            n_rebuilt_scalers=self._scalers.n_rebuilt,
            scaler_created_at=self._scalers.created_at,
            repeated=None if "repeated items" in self._disabled else self._repeated.result,
        )

    def model_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor | None) -> None:
        values = [value for value in (*args, *kwargs.values()) if value is not x]
        self._guarded("loaders", lambda: self._loaders.called(is_training=True))
        self._guarded("repeated items", lambda: self._repeated.called(is_training=True))
        self._guarded("unused data", lambda: self._unused.called(x))
        self._guarded("masks", lambda: self._masks.called(x, [args, kwargs]))
        self._guarded("states", lambda: self._states.batch(x))
        self._guarded("states", lambda: self._states.entering(module, values))

    def training_rows(self, x: Tensor | None) -> Callable[[], None]:
        """Return what to call once it is known that the model is trained on the rows of x."""
        keep = self._guarded("rows", lambda: self._rows.to_train(x))
        return lambda: self._guarded("rows", keep) if keep is not None else None

    def model_return(self, module: nn.Module, output: Any) -> None:
        values = output.values() if isinstance(output, dict) else output
        # The first is the prediction, which a loop may feed back on purpose.
        if isinstance(values, tuple | list) and len(values) > 1:
            self._guarded("states", lambda: self._states.leaving(module, values[1:], output))

    def recurrent_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = [*args[1:], kwargs.get("hx")]
        self._guarded("states", lambda: self._states.entering(module, values))

    def recurrent_return(self, module: nn.Module, output: Any) -> None:
        states = output[1:] if isinstance(module, nn.RNNBase) else (output,)
        self._guarded("states", lambda: self._states.leaving(module, states, output))

    def evaluated(self, module: nn.Module) -> None:
        """A module was called without gradients."""
        self._guarded("averages", lambda: self._averages.called(module, user_line()))

    def validated(self, x: Tensor | None) -> None:
        """The model was called with x without gradients."""
        self._guarded("loaders", lambda: self._loaders.called(is_training=False))
        self._guarded("repeated items", lambda: self._repeated.called(is_training=False))
        self._guarded("rows", lambda: self._rows.evaluated(x))

    def averaged_with_itself(self, tensor: Tensor) -> None:
        """A tensor was averaged with itself."""
        self._guarded("self averages", lambda: self._self_averages.add(tensor, user_line(), self._n_updates))

    def criterion(self, name: str, targets: Tensor, options: dict[str, Any]) -> None:
        """A loss function of torch was called with gradients. options: with its `input`."""
        self._guarded("criteria", lambda: self._criteria.add(name, user_line(), options, targets, self._n_updates))
        self._guarded("states", lambda: self._states.targets(targets))
        if name in FURTHER_CRITERIA:
            self._guarded("target counts", lambda: self._targets.add_other(name))
            return
        self._guarded("target counts", lambda: self._targets.add(name, targets, options))

    def indices_drawn(self, iterator: Any, indices: Any) -> None:
        """A DataLoader's iterator drew the indices of a batch."""
        self._guarded("repeated items", lambda: self._repeated.drawn(iterator, indices))

    def fetched(self, iterator: Any, batch: Any) -> None:
        """A DataLoader's iterator gave a batch."""
        self._guarded("loaders", lambda: self._loaders.fetched(iterator))
        self._guarded("repeated items", lambda: self._repeated.fetched(iterator))
        self._guarded("states", lambda: self._states.fetched(shuffled=shuffles(iterator)))
        self._guarded("masks", lambda: self._masks.fetched(batch))

    def scaler_created(self) -> None:
        self._guarded("scalers", self._scalers.created)

    def scaler_stepped(self, scaler: Any, optimizer: Optimizer) -> None:
        self._guarded("scalers", lambda: self._scalers.stepped(scaler, optimizer))

    def schedule_created(self, scheduler: Any) -> None:
        self._schedules.setdefault(id(scheduler), (scheduler, [], user_line()))

    def scheduled(self, scheduler: Any, *, has_stepped: bool) -> None:
        """A scheduler made a step. has_stepped: whether an optimizer has, since the last update ended."""
        _, updates, _ = self._schedules.setdefault(id(scheduler), (scheduler, [], user_line()))
        updates.append(self._n_updates + has_stepped)

    def before_step(self, optimizer: Optimizer) -> None:
        self._guarded("rounding", lambda: self._rounding.before_step(optimizer))

    def after_step(self, optimizer: Optimizer) -> None:
        self._guarded("rounding", self._rounding.after_step)
        self._guarded("idle optimizers", lambda: self._idle.stepped(optimizer))
        self._guarded("self averages", lambda: self._self_averages.stepped(optimizer))

    def update_ended(self, model: nn.Module | None) -> None:
        """An update is over."""
        self._n_updates += 1
        self._states.n_updates = self._n_updates
        self._guarded("repeated items", self._repeated.update_ended)
        if self._n_updates == SEARCH_AT and model is not None:
            self._guarded("averages", lambda: self._averages.search(model, self._n_updates))

    def _guarded(self, watch: str, call: Callable[[], Any]) -> Any:
        """Return what `call` returns; None if it raises, or if the watch has raised before."""
        if watch in self._disabled:
            return None
        try:
            return call()
        except Exception as error:
            self._disabled.add(watch)
            self.notes[f"{watch} were not observed after {type(error).__name__}: {error}"] = None
            return None


class ObservedHooks(UnusedHooks):
    """What LoopHooks reports and only an observer needs."""

    def __init__(self) -> None:
        self._observer = Observer()

    def recurrent_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._observer.recurrent_call(module, args, kwargs)

    def recurrent_return(self, module: nn.Module, output: Any) -> None:
        self._observer.recurrent_return(module, output)

    def indices_drawn(self, iterator: Any, indices: Any) -> None:
        self._observer.indices_drawn(iterator, indices)

    def fetched(self, iterator: Any, batch: Any) -> None:
        self._observer.fetched(iterator, batch)

    def averaged_with_itself(self, tensor: Tensor) -> None:
        self._observer.averaged_with_itself(tensor)

    def scaler_created(self) -> None:
        self._observer.scaler_created()

    def scaler_stepped(self, scaler: Any, optimizer: Optimizer) -> None:
        self._observer.scaler_stepped(scaler, optimizer)

    def schedule_created(self, scheduler: Any) -> None:
        self._observer.schedule_created(scheduler)
