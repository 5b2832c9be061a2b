"""The names of a model's modules that are running, the innermost last."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class ModuleStack:
    """Follows which modules of a model are running."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._class_names = {name: type(module).__name__ for name, module in model.named_modules()}
        self._running: list[str] = []

    @property
    def innermost(self) -> str:
        """The name of the innermost running module; "" outside of all, and in the model itself."""
        return self._running[-1] if self._running else ""

    @property
    def innermost_class(self) -> str:
        """The name of its class; that of the model outside of all modules."""
        return self._class_names[self.innermost]

    @contextmanager
    def following(self) -> Iterator[None]:
        """Keep the names up to date with hooks, which are removed at the end."""
        handles = []
        for name, module in self._model.named_modules():
            # bind the name at definition: a loop variable changes
            def enter(_: nn.Module, __: Any, name: str = name) -> None:
                self._running.append(name)

            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self, _: nn.Module, __: Any, ___: Any) -> None:
        if self._running:
            self._running.pop()
