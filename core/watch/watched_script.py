"""What is known of a script until its first step is recorded: what it passed itself, and what the hooks have seen."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.hooks import OF_CLASSES
from tui_lab.core.watch.model.model_calls import CallForm, call_form
from tui_lab.core.watch.model.model_search import Inputs, ModelFinder, parameters_of
from tui_lab.core.watch.optimizer.optimizers import ScriptOptimizers
from tui_lab.core.watch.tokenizer.script_tokenizer import ScriptTokenizer
from tui_lab.core.watch.variables.script_config import Discovered


@dataclass
class Given:
    """What the script passed to `tui_lab.watch`; the rest is found. optimizers: empty: any. steps: 0: unknown.

    code: whether the text of the code is kept.
    """

    model: nn.Module | None = None
    optimizers: tuple[Optimizer, ...] = ()
    tokenizer: ScriptTokenizer | None = None
    settings: Mapping[str, Any] | None = None
    steps: int = 0
    code: bool = True


class WatchedScript:
    """The recorder adds what it sees."""

    def __init__(self, given: Given, finder: ModelFinder) -> None:
        self.given = given
        self.finder = finder
        self.optimizers = ScriptOptimizers()
        self._form: CallForm | None = None
        self.grad_clip = 0.0
        """The norm to which the gradients are clipped; 0: not at all."""
        self.n_vocab = 0
        """The number of logits; 0 if no cross-entropy was seen."""
        self.is_time_first = False
        """Whether the model takes ids [T, B]."""
        self._first_inputs: Inputs | None = None

    @property
    def form(self) -> CallForm | None:
        """How the model is called with token ids; None until it was."""
        return None if self._form is None else replace(self._form, time_first=self.is_time_first)

    @property
    def model(self) -> nn.Module | None:
        """The model that the script passed, or the one that is found."""
        return self.finder.likely_model if self.given.model is None else self.given.model

    def is_trained(self, module: nn.Module) -> bool:
        """Return whether a module is without parameters, or shares any with the model or with the optimizers."""
        parameter_ids = {id(parameter) for parameter in module.parameters()}
        trained = parameters_of(self.optimizers.present)
        if (model := self.finder.model) is not None:
            trained += model.parameters()
        return not parameter_ids or any(id(parameter) in parameter_ids for parameter in trained)

    def watches(self, optimizer: Optimizer) -> bool:
        """Return whether the steps of this optimizer are recorded."""
        return not self.given.optimizers or any(optimizer is given for given in self.given.optimizers)

    def find_model_of(self, optimizer: Optimizer) -> None:
        """Look for the model of another training, which begins with this optimizer."""
        self._form = None
        self.finder.search([optimizer], self.given.model)

    def loss_called(self, name: str, logits: Tensor, targets: Tensor) -> None:
        """The loss function `name` was called."""
        if name in OF_CLASSES and logits.dim() >= 2 and not targets.is_floating_point():
            self.n_vocab = max(self.n_vocab, int(logits.shape[1]))

    def model_called(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: Inputs) -> None:
        """The model was called with these arguments, of which `inputs` are the batch."""
        self.batch_seen(inputs)
        if self._form is None and inputs.has_tokens:
            self._form = call_form(args, kwargs, inputs)

    def watch_given_model(self) -> None:
        """Watch the model that the script passed, if it did, before its first step."""
        if self.given.model is not None:
            self.finder.search((), self.given.model)

    def batch_seen(self, inputs: Inputs | None) -> None:
        """Keep the first batch, which shows what the model takes. None: it is not known."""
        self._first_inputs = self._first_inputs or inputs

    def _inputs_by_rows(self) -> Inputs | None:
        """Return the first batch, with ids [B, T]."""
        first = self._first_inputs
        if first is None or first.x is None or not (first.has_tokens and self.is_time_first):
            return first
        return Inputs(first.x.t(), first.y)

    def discovered(self, lr: float, steps: int) -> Discovered:
        """Return all that is known. lr: of the first step; steps: of the whole training, 0 if unknown."""
        return Discovered(
            model=self.finder.likely_model,
            optimizers=tuple(self.optimizers.present),
            lr=lr,
            grad_clip=self.grad_clip,
            seen_vocab=self.n_vocab,
            inputs=self._inputs_by_rows(),
            steps=steps,
        )
