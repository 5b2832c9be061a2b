"""Tensors that modules keep in plain attributes from call to call, such as a recurrent state or a cache."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_INTERNAL = frozenset(vars(nn.Module()))
_MISSING = object()


class KeptStates:
    """Remembers the plain attributes of modules, to give them back those that hold tensors later."""

    def __init__(self) -> None:
        self._initial: list[tuple[nn.Module, dict[str, Any]]] = []

    def remember(self, module: nn.Module) -> None:
        """Remember the present attributes of a module and those inside it."""
        self._initial += [(part, _attributes(part)) for part in module.modules()]

    def resetter(self, model: nn.Module) -> Callable[[nn.Module], None]:
        """Return a function that resets, in `model` or a copy of it, what has become another tensor since."""
        paths = {id(part): name for name, part in model.named_modules(remove_duplicate=False)}
        changed = [
            (paths[id(part)], name, before.get(name, _MISSING))
            for part, before in self._initial
            if id(part) in paths
            for name, value in _attributes(part).items()
            if _holds_tensor(value) and value is not before.get(name, _MISSING)
        ]

        def reset(copied: nn.Module) -> None:
            for path, name, value in changed:
                part = copied.get_submodule(path)
                if value is not _MISSING:
                    setattr(part, name, value)
                elif name in vars(part):
                    delattr(part, name)

        return reset


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _INTERNAL}


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_tensor(part) for part in value)
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
