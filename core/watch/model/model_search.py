"""Find the model of a script: the outermost module that owns the parameters of its optimizers and is called."""

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.variables.script_objects import instances_of

MAX_CANDIDATES = 8
X_NAMES = ("input_ids", "idx", "x", "tokens", "inputs", "ids", "src", "input")
Y_NAMES = ("labels", "targets", "target", "y", "label")
NOT_X = ("mask", "position", "type_id", "length")
"""Parts of the names of integer arguments that hold no tokens."""


class CallListener(Protocol):
    """What a ModelFinder calls."""

    def model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None: ...

    def model_returned(self, module: nn.Module, output: Any) -> None:
        """The model returned `output`."""
        ...

    def model_raised(self, error: BaseException) -> None:
        """The call of the model raised `error`."""
        ...

    def other_called(self, module: nn.Module) -> None:
        """A further module of a class of the model, maybe a copy or a part of it, is called without gradients."""
        ...


def parameters_of(optimizers: Iterable[Optimizer]) -> list[Tensor]:
    """Return every parameter once."""
    parameters = {id(p): p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    return list(parameters.values())


def gradients_of(optimizers: Iterable[Optimizer]) -> list[Tensor]:
    """Return every gradient that is there, once."""
    return [p.grad for p in parameters_of(optimizers) if p.grad is not None]


def candidates(optimizers: Iterable[Optimizer]) -> list[nn.Module]:
    """Return the modules that own most of the optimizers' parameters, the outermost first.

    A training framework wraps the model in modules that it never calls, so the caller takes the first that is called.
    """
    optimized = {id(p) for p in parameters_of(optimizers)}
    owned = [(len(optimized & _parameter_ids(module)), module) for module in instances_of(nn.Module)]
    most = max((count for count, _ in owned), default=0)
    if most == 0:
        return []
    best = [module for count, module in owned if count == most]
    sizes = {id(module): sum(1 for _ in module.modules()) for module in best}
    best.sort(key=lambda module: -sizes[id(module)])
    return [module for module in best if not _is_inside_compiled(module, best)][:MAX_CANDIDATES]


def _parameter_ids(module: nn.Module) -> set[int]:
    try:
        return {id(p) for p in module.parameters()}
    except Exception:  # A module may define `parameters` in its own way, or be half built.
        return set()


def _is_inside_compiled(module: nn.Module, others: Iterable[nn.Module]) -> bool:
    """Return whether `module` is called by a compiled graph only, which does not look at its class again."""
    return any(getattr(other, "_orig_mod", None) is module for other in others)


class ModelFinder:
    """Watches the calls of the candidates until one is called; from then on only of that one.

    If that call has no gradients, a module around it that is called for training takes its place: a method such as
    `generate` may call `self.forward`, which is seen as a call of the parts alone.

    Their classes get a `__call__` for this. A hook on the module itself would be copied and saved with it.
    """

    def __init__(self, listener: CallListener) -> None:
        self._model: weakref.ref[nn.Module] | None = None
        self._listener = listener
        self._watched: dict[int, weakref.ref[nn.Module]] = {}
        self._around: dict[int, weakref.ref[nn.Module]] = {}
        """The modules that may take the place of the model."""
        self._undo: list[Callable[[], None]] = []

    @property
    def is_active(self) -> bool:
        """Whether calls are watched."""
        return bool(self._watched)

    @property
    def model(self) -> nn.Module | None:
        """The model; None until it is called, and when the script has dropped it."""
        return None if self._model is None else self._model()

    @property
    def likely_model(self) -> nn.Module | None:
        """The model, or before it is called the outermost candidate."""
        model = self.model
        if model is not None:  # Its truth value may be that of a length.
            return model
        return next((module for ref in self._watched.values() if (module := ref()) is not None), None)

    def search(self, optimizers: Iterable[Optimizer], given: nn.Module | None = None) -> None:
        """Watch the model `given`, or all modules that may be the model, instead of those before."""
        self.remove()
        self._model = None
        modules = [given] if given is not None else candidates(optimizers)
        self._watched = {id(module): weakref.ref(module) for module in modules}
        for kind in {type(module) for module in modules}:
            self._watch_calls(kind)

    def remove(self) -> None:
        """Stop watching."""
        self._watched = {}
        self._around = {}
        while self._undo:
            self._undo.pop()()

    def _watch_calls(self, kind: type[nn.Module]) -> None:
        original: Callable[..., Any] = kind.__call__
        has_own = "__call__" in vars(kind)
        is_plain = original is nn.Module.__call__

        @functools.wraps(original)
        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            # Looked up at each call: torch.fx replaces the method of nn.Module while it traces.
            call = nn.Module.__call__ if is_plain else original
            if torch.compiler.is_compiling():
                return call(module, *args, **kwargs)
            if not self._watches(module) and not self._takes_its_place(module):
                if self._model is not None and not torch.is_grad_enabled():
                    self._listener.other_called(module)
                return call(module, *args, **kwargs)
            if self._model is None or self._around and torch.is_grad_enabled():
                self._select(module)
            self._listener.model_called(module, args, kwargs)
            try:
                output = call(module, *args, **kwargs)
            except BaseException as error:
                self._listener.model_raised(error)
                raise
            self._listener.model_returned(module, output)
            return output

        def undo() -> None:
            if vars(kind).get("__call__") is not called:
                return
            if has_own:
                setattr(kind, "__call__", original)  # noqa: B010 - mypy refuses to assign a method.
            else:
                del kind.__call__

        setattr(kind, "__call__", called)  # noqa: B010
        self._undo.append(undo)

    def _watches(self, module: nn.Module) -> bool:
        watched = self._watched.get(id(module))
        return watched is not None and watched() is module

    def _takes_its_place(self, module: nn.Module) -> bool:
        around = self._around.get(id(module))
        return around is not None and around() is module and torch.is_grad_enabled()

    def _select(self, module: nn.Module) -> None:
        """The module that is called is the model; without gradients, a module around it may still take its place."""
        others = {} if torch.is_grad_enabled() else self._watched
        self._around = {key: ref for key, ref in others.items() if _is_around(ref(), module)}
        self._model = weakref.ref(module)
        self._watched = {id(module): self._model}


def _is_around(other: nn.Module | None, module: nn.Module) -> bool:
    """Return whether `module` is a part of `other`, which has further parts: a parallel wrapper has none."""
    while other is not None and other is not module:
        children = list(other.children())
        if len(children) > 1 or next(other.parameters(recurse=False), None) is not None:
            return any(part is module for part in other.modules())
        other = children[0] if children else None
    return False


class Inputs(NamedTuple):
    """The tensors of one call of the model. x: token ids [B, T], or the first tensor of a model without tokens.

    has_named_y: whether y is an argument with a usual name of targets, and not only further ids.
    others: further tensors of integers [B, n] with n < T, such as positions.
    """

    x: Tensor | None
    y: Tensor | None
    has_named_y: bool = False
    others: tuple[Tensor, ...] = ()

    @property
    def has_tokens(self) -> bool:
        return self.x is not None and self.x.dim() == 2 and not self.x.is_floating_point()


def inputs_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
    """Return the x and y among the arguments of a model; a dictionary or tuple that is an argument is looked into."""
    if len(args) == 2 and not kwargs and all(isinstance(arg, Tensor) for arg in args):
        first, second = args  # The usual call, model(x, y), without a look at names.
        if _holds_ids(first) and first.shape == second.shape:
            return Inputs(first, second)
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return Inputs(args[0] if args[0].dim() else None, None)
    named = list(_named_tensors(args, kwargs))
    whole = [(name, t) for name, t in named if _holds_ids(t) and not any(part in name for part in NOT_X)]
    y = next((t for name, t in named if name in Y_NAMES), None)
    x = next((t for wanted in X_NAMES for name, t in whole if name == wanted), None)
    if x is None:
        x = next((t for name, t in whole if name not in Y_NAMES), None)
    if x is None:
        return Inputs(next((t for name, t in named if t.dim() >= 1 and name not in Y_NAMES), None), y, y is not None)
    if y is not None:
        return Inputs(x, y, has_named_y=True)
    others = tuple(t for _, t in whole if t.dim() == 2 and len(t) == len(x) and t.shape[1] < x.shape[1])
    return Inputs(x, next((t for _, t in whole if t is not x and t.shape == x.shape), None), others=others)


def _holds_ids(tensor: Tensor) -> bool:
    return tensor.dim() >= 2 and not tensor.is_floating_point() and not tensor.is_complex()


def _named_tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterable[tuple[str, Tensor]]:
    for name, value in [*kwargs.items(), *((f"{i}", value) for i, value in enumerate(args))]:
        if isinstance(value, Tensor):
            yield str(name), value
        elif isinstance(value, Mapping):
            yield from ((str(key), item) for key, item in value.items() if isinstance(item, Tensor))
        elif isinstance(value, list | tuple):
            yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Tensor))


def loss_of(output: Any) -> Tensor | None:
    """Return the scalar loss in what a model returned: `.loss`, ["loss"], or a scalar in a tuple."""
    if isinstance(output, Tensor):
        return output if output.dim() == 0 else None
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.dim() == 0:
        return loss
    parts = output if isinstance(output, list | tuple) else ()
    return next((p for p in parts if isinstance(p, Tensor) and p.dim() == 0 and p.is_floating_point()), None)
