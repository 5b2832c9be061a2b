"""What is known of a script at its first step, as a config and as the event that starts the run."""

import contextlib
import linecache
import math
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from tui_lab.core import events as ev
from tui_lab.core.config.script import BY_HAND, Parallelism, ScriptConfig
from tui_lab.core.watch.code.executed_files import names_in_code
from tui_lab.core.watch.code.loop_variables import executed_loop_variables, loop_variables
from tui_lab.core.watch.model.model_calls import parallelism, unwrapped
from tui_lab.core.watch.model.model_search import Inputs, parameters_of
from tui_lab.core.watch.optimizer.optimizers import peak_rate
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer
from tui_lab.core.watch.ranks.group import n_processes
from tui_lab.core.watch.steering.steering import dropout_rates
from tui_lab.core.watch.tokenizer.find_tokenizer import find_tokenizer
from tui_lab.core.watch.tokenizer.script_tokenizer import ScriptTokenizer
from tui_lab.core.watch.variables.frames import is_function, locals_of, with_callers
from tui_lab.core.watch.variables.script_settings import captured_settings, total_steps
from tui_lab.data.tokenizers import IdTokenizer

LIBRARIES = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Discovered:
    """What has been found. lr: of the first step, NaN if it is not known.

    grad_clip: the norm to which the script clips, 0: not at all.
    seen_vocab: the number of logits; inputs: of the first call of the model that was seen; steps: 0 if not known.
    """

    model: nn.Module | None
    optimizers: tuple[Optimizer, ...]
    lr: float
    grad_clip: float
    seen_vocab: int
    inputs: Inputs | None
    steps: int = 0

    @property
    def has_tokens(self) -> bool:
        return self.inputs is not None and self.inputs.has_tokens

    @property
    def n_vocab(self) -> int:
        """The number of logits if the model takes tokens."""
        return self.seen_vocab if self.has_tokens else 0

    def config(
        self, config: ScriptConfig, namespaces: Sequence[Mapping[str, Any]], given: Mapping[str, Any] | None
    ) -> ScriptConfig:
        """`config` completed; a setting that it has stays unless a variable has its name.

        given: the settings passed to `tui_lab.watch`, instead of the script's variables.
        """
        settings = captured_settings(namespaces if given is None else [dict(given)])
        rates = [rate for _, _, rate in dropout_rates(self.model)] if self.model is not None else []
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        unit: Literal["tokens", "samples"] = "tokens" if self.has_tokens else "samples"
        x = self.inputs.x if self.inputs is not None else None
        model = {
            "name": "" if self.model is None else type(unwrapped(self.model)).__name__,
            "dropout": max(rates) if rates else None,
            "context": int(x.shape[1]) if x is not None and self.has_tokens else None,
        }
        optim = {
            "name": _name_of(self.optimizers[0]) if self.optimizers else "",
            "lr": None if math.isnan(self.lr) else self._peak_rate(),
            "weight_decay": max((float(group.get("weight_decay") or 0.0) for group in groups), default=0.0) or None,
            "grad_clip": self.grad_clip,
        }
        steps = self.steps or total_steps(settings, _batches_per_epoch(namespaces))
        parallel: Parallelism = "none" if self.model is None else parallelism(self.model)
        train = {"steps": steps, "unit": unit, "processes": n_processes(), "parallel": parallel}
        known = {key: value for key, value in config.settings.items() if key not in settings}
        tables = config.model_dump() | {"model": model, "optim": optim, "train": train, "settings": settings | known}
        return ScriptConfig.model_validate(tables)

    def _peak_rate(self) -> float:
        return peak_rate(self.optimizers[0], self.lr) if self.optimizers else self.lr

    def _n_ids(self) -> int:
        """Return the number of token ids: that of the logits, or of a classifier the rows of its embedding.

        0: unknown.
        """
        x = None if self.inputs is None else self.inputs.x
        if x is None or not (self.seen_vocab and x.numel()):
            return self.seen_vocab
        largest = int(x.max())
        if largest < self.seen_vocab:
            return self.seen_vocab
        tables = [] if self.model is None else [part for part in self.model.modules() if isinstance(part, nn.Embedding)]
        return next((each.num_embeddings for each in tables if each.num_embeddings > largest), 0)

    def find_tokenizer(self, namespaces: Sequence[Mapping[str, Any]]) -> ScriptTokenizer | None:
        """Return the script's tokenizer; None for a model without tokens, or if there is none."""
        return find_tokenizer(namespaces, self._n_ids() or None) if self.has_tokens else None

    def tokenizer_state(self, tokenizer: ScriptTokenizer | None) -> dict[str, Any]:
        """Return the content of tokenizer.json."""
        if tokenizer is not None:
            return tokenizer.tokenizer().state()
        return IdTokenizer(self._n_ids() if self.has_tokens else self.seen_vocab).state()

    def started(self, config: ScriptConfig) -> ev.Started:
        """Return the event that starts the run."""
        parameters = list(self.model.parameters()) if self.model is not None else parameters_of(self.optimizers)
        device = str(parameters[0].device) if parameters else "cpu"
        return ev.Started(
            step=0,
            steps=config.train.steps,
            parameters=sum(p.numel() for p in parameters),
            n_vocab=self.n_vocab,
            train_examples=0,
            val_examples=0,
            device=device,
            threads=torch.get_num_threads(),
            resumed=False,
        )


def _batches_per_epoch(namespaces: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the lengths of the DataLoaders among the variables."""
    lengths: set[int] = set()
    for namespace in namespaces:
        for value in list(namespace.values()):
            if isinstance(value, DataLoader):
                with contextlib.suppress(Exception):  # A data set may have no length.
                    lengths.add(len(value))
    return lengths


def _name_of(optimizer: Optimizer) -> str:
    return BY_HAND if isinstance(optimizer, ManualOptimizer) else type(optimizer).__name__


def user_namespaces(frame: FrameType | None) -> list[Mapping[str, Any]]:
    """Return the globals of `__main__`, and the local variables of the running functions that belong to no library."""
    namespaces: list[Mapping[str, Any]] = [vars(sys.modules["__main__"])]
    return namespaces + [locals_of(frame) for frame in _user_frames(frame) if is_function(frame)]


def without_loop_variables(frame: FrameType | None) -> list[Mapping[str, Any]]:
    """Return the same namespaces without what only counts or holds results in loops."""
    main = vars(sys.modules["__main__"])
    of_main: set[str] = set()
    namespaces: list[Mapping[str, Any]] = []
    for each in _user_frames(frame):
        if is_function(each):
            namespaces.append(_without(locals_of(each), loop_variables(each)))
        elif each.f_globals is main:
            of_main |= loop_variables(each)
            of_main |= _of_executed_files(each.f_code.co_filename)
    return [_without(main, of_main), *namespaces]


def _of_executed_files(script: str) -> set[str]:
    """Return the loop variables of the files that a script executes by name."""
    source = "".join(linecache.getlines(script)).encode()
    return {name for file in names_in_code(source) for name in executed_loop_variables(file)}


def _without(variables: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Leave out the numbers and texts with these names; an object may hold settings, too."""
    left_out = set(names)
    items = dict(variables).items()
    return {name: value for name, value in items if not (name in left_out and isinstance(value, int | float | str))}


def _user_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the running functions and modules that belong to no library, the innermost first."""
    folders = (str(Path(__file__).parents[1]), sysconfig.get_paths()["stdlib"])
    for each in with_callers(frame):
        name = each.f_code.co_filename
        is_library = any(part in name for part in LIBRARIES) or name.startswith((*folders, "<frozen"))
        if not is_library:
            yield each
