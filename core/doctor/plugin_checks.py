"""Checks of plug-ins: what they see of the examined training, and how the doctor runs them."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial

from torch import Tensor, nn

from tui_lab.core.doctor.checks.registry import Check
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.plugin_findings import named
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.target import Target
from tui_lab.util import plugin_registry
from tui_lab.util.plugin_registry import Plugin, PluginError

PluginCheck = Callable[["Examined"], Iterable[Finding]]
"""What the entry point of a check names. Its docstring says what it asks."""


class Examined:
    """The training that a check of a plug-in examines. The model is a copy: the check may train or change it.

    Whatever the examined program does not have raises NotApplicable, and what it does not tell NotJudged; a check lets
    these pass, and is reported so.
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    @cached_property
    def _trial(self) -> Target:
        return self._target.fresh()

    @property
    def model(self) -> nn.Module:
        """A copy of the model, in the mode and on the device of the original."""
        return self._trial.model

    @property
    def n_vocab(self) -> int:
        """The size of the tokenizer's vocabulary."""
        if self._target.n_vocab is None:
            raise NotJudged("the size of the vocabulary is not known")
        return self._target.n_vocab

    @property
    def ignored(self) -> int:
        """The target that the loss skips."""
        return self._target.ignored

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0, in the form that the program has it."""
        return self._target.batch(step)

    def ids(self, step: int) -> Tensor:
        """Return the token ids of the batch of a step, int64 [B, T]."""
        return self._target.pair(step)[0]

    def targets(self, step: int) -> Tensor:
        """Return the targets of the batch of a step, int64 [B, T]; `ignored` where the loss skips them."""
        return self._target.pair(step)[1]

    def logits(self, step: int) -> Tensor:
        """Return the copy's logits for the batch of a step, [B, T, V], in evaluation mode, with gradients."""
        with self._trial.evaluating():
            return self._trial.logits_of(self._trial.batch(step))

    def loss(self, step: int) -> Tensor:
        """Return the loss that is trained on, for the batch of a step: a scalar with gradients, of the copy."""
        return self._trial.loss(self._trial.batch(step))

    def update(self, step: int) -> None:
        """Make the training's own update of the copy on the batch of a step."""
        self._trial.apply_update(self._trial.batch(step))

    def text(self, token: int) -> str:
        """Return a token as printable text; its id where the tokenizer is not known."""
        return self._target.show(token)


def with_plugins(own: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return the doctor's own checks, and after them those of plug-ins by name.

    One that cannot be used raises PluginError when it is run, as one does that crashes.
    """
    own_names = tuple(check.name for check in own)
    return (
        *own,
        *(
            Check(plugin.name, partial(_run, plugin, own_names), ask=partial(_question, plugin))
            for plugin in plugin_registry.one_of_each_name("checks")
        ),
    )


def _run(plugin: Plugin, own_names: tuple[str, ...], target: Target) -> Iterator[Finding]:
    if problem := plugin_registry.conflict(plugin, own_names):
        raise plugin.error(problem)
    check: PluginCheck = plugin.load()
    try:
        for value in check(Examined(target)) or ():
            yield named(plugin, value)
    except (NotApplicable, NotJudged, PluginError):
        raise
    except Exception as error:
        raise plugin.error("the check crashed", error) from error


def _question(plugin: Plugin) -> str:
    try:
        text = inspect.getdoc(plugin.load()) or "no description"
    except PluginError as error:
        return str(error)
    return f"{' '.join(text.split())} (a plug-in of {plugin.origin})"
