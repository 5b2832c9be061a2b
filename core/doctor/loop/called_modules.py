"""Finds the model of a loop among the outermost modules that it calls."""

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from tui_lab.core.watch.model.model_search import candidates, parameters_of


class CalledModules:
    """The outermost modules with trainable parameters that were called with gradients.

    They are kept, so that they can be examined when the loop has ended.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self.model = model
        """The model; None until `choose` finds it."""
        self._called: dict[int, nn.Module] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no module was called."""
        return not self._called

    @property
    def has_called_model(self) -> bool:
        """Whether one of the called modules has parameters of the model."""
        return self.model is not None and any(self.concerns(module) for module in self._called.values())

    def add(self, module: nn.Module) -> bool:
        """Note a called module. Return whether it is new."""
        is_new = id(module) not in self._called
        self._called[id(module)] = module
        return is_new

    def choose(self, optimizers: Sequence[Optimizer]) -> nn.Module | None:
        """Choose as the model the called module with most of the optimizers' parameters, unless there is one already.

        Where its parts are called one by one, as those of an encoder-decoder may be, it is the module that has them.
        """
        called = list(self._called.values())
        if self.model is not None or not called:
            return self.model
        optimized = {id(p) for p in parameters_of(optimizers)}

        def n_owned(module: nn.Module) -> int:
            return len(optimized & {id(p) for p in module.parameters()})

        model = max(called, key=lambda module: (n_owned(module), sum(p.numel() for p in module.parameters())))
        if len(called) > 1 and n_owned(model) < len(optimized):
            whole = next(iter(candidates(optimizers)), model)
            model = max((model, whole), key=n_owned)
        self.model = model
        return model

    def concerns(self, module: nn.Module) -> bool:
        """Return whether `module` has parameters of the model; True while the model is not known."""
        model = self.model
        if model is None or module is model:
            return True
        ids = {id(p) for p in model.parameters()}
        return any(id(p) in ids for p in module.parameters())
