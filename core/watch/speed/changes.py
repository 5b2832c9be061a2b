"""Changes that may make a script faster, each of which can be turned on and off between two of its steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.model.model_search import parameters_of
from tui_lab.core.watch.speed.turns import TOGETHER
from tui_lab.util.cores import allowed_cores
from tui_lab.util.plural import counted


class Change(ABC):
    """name: an identifier. text: what it is. code: how a script does it. n_warm_up: steps until it is at full speed."""

    n_warm_up = 1

    def __init__(self, name: str, text: str, code: str) -> None:
        self.name = name
        self.text = text
        self.code = code

    @property
    def kind(self) -> str:
        """Only one change of a kind can be on."""
        return self.name.partition("=")[0]

    @abstractmethod
    def turn_on(self) -> None: ...

    @abstractmethod
    def turn_off(self) -> None: ...


class Setting(Change):
    """A global setting of torch: read by `get`, changed by `put`."""

    def __init__(
        self, name: str, text: str, code: str, get: Callable[[], Any], put: Callable[[Any], None], value: Any
    ) -> None:
        super().__init__(name, text, code)
        self._get = get
        self._put = put
        self._value = value
        self._before: Any = None

    def turn_on(self) -> None:
        self._before = self._get()
        self._put(self._value)

    def turn_off(self) -> None:
        self._put(self._before)


class Autocast(Change):
    """The model is called under torch.autocast, and returns float32, as Accelerate does it."""

    def __init__(self, model: nn.Module, device: str) -> None:
        code = f'with torch.autocast("{device}", torch.bfloat16): around the model\'s call and the loss'
        super().__init__("bf16", "bfloat16 autocast", code)
        self._model = model
        self._device = device

    def turn_on(self) -> None:
        original = self._model.forward
        device = self._device

        def forward(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(device, torch.bfloat16):
                output = original(*args, **kwargs)
            return in_float32(output)

        self._own = vars(self._model).get("forward")
        self._model.forward = forward

    def turn_off(self) -> None:
        if self._own is None:
            del self._model.forward
        else:
            self._model.forward = self._own


class WithoutAutocast(Change):
    """What the script enters as torch.autocast does nothing."""

    def __init__(self) -> None:
        super().__init__("no-autocast", "without autocast", "no torch.autocast, or enabled=False")
        self._original = torch.autocast.__enter__

    def turn_on(self) -> None:
        original = self._original

        def enter(context: Any) -> Any:
            enabled = context._enabled
            context._enabled = False
            try:
                return original(context)  # type: ignore[no-untyped-call]
            finally:
                context._enabled = enabled  # A script may enter it again later.

        torch.autocast.__enter__ = enter  # type: ignore[method-assign]

    def turn_off(self) -> None:
        torch.autocast.__enter__ = self._original  # type: ignore[method-assign]


class Fused(Change):
    """All optimizers that can use their fused kernel."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        names = list(dict.fromkeys(type(optimizer).__name__ for optimizer in optimizers))
        code = "; ".join(f"{name}(…, fused=True)" for name in names)
        super().__init__("fused", f"fused=True for {', '.join(names)}", code)
        self._optimizers = optimizers
        self._before: list[tuple[dict[str, Any], Any, Any]] = []

    def turn_on(self) -> None:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                self._before.append((group, group["fused"], group["foreach"]))
                group["fused"] = True
                group["foreach"] = False
            _move_steps(optimizer, lambda parameter: parameter.device)

    def turn_off(self) -> None:
        for group, fused, foreach in self._before:
            group["fused"] = fused
            group["foreach"] = foreach
        self._before = []
        for optimizer in self._optimizers:
            _move_steps(optimizer, lambda parameter: torch.device("cpu"))


class Compiled(Change):
    """The model is called through torch.compile."""

    n_warm_up = 4

    def __init__(self, model: nn.Module) -> None:
        super().__init__("compile", "torch.compile", "model.compile()")
        self._model = model
        self._call: Any = None

    def turn_on(self) -> None:
        if self._call is None:
            self._model.compile()
            self._call = self._model._compiled_call_impl
        self._model._compiled_call_impl = self._call

    def turn_off(self) -> None:
        self._model._compiled_call_impl = None


class Together(Change):
    """Several changes at once."""

    def __init__(self, changes: Sequence[Change]) -> None:
        super().__init__(TOGETHER, "all that are faster", "; ".join(change.code for change in changes))
        self.n_warm_up = max(change.n_warm_up for change in changes)
        self._parts = changes

    def turn_on(self) -> None:
        for change in self._parts:
            change.turn_on()

    def turn_off(self) -> None:
        for change in reversed(self._parts):
            change.turn_off()


class Seen:
    """What the changes depend on: what a script has used in its first steps."""

    def __init__(self) -> None:
        self.model: nn.Module | None = None
        self.optimizers: list[Optimizer] = []
        self.has_autocast = False
        self.has_scaler = False
        self.detects_anomalies = False

    @property
    def parameters(self) -> list[Tensor]:
        return list(parameters_of(self.optimizers)) if self.model is None else list(self.model.parameters())

    @property
    def device(self) -> str:
        """The type of device of most weights."""
        types = [parameter.device.type for parameter in self.parameters]
        return max(set(types), key=types.count, default="cpu")

    @property
    def dtypes(self) -> set[torch.dtype]:
        return {parameter.dtype for parameter in self.parameters if parameter.is_floating_point()}


def possible_changes(seen: Seen, *, compile_too: bool) -> tuple[list[Change], dict[str, str]]:
    """Return the changes to try, and the others by name with why they are not tried."""
    refused = {"bf16": _why_no_autocast(seen), "fused": _why_not_fused(seen), "compile": _why_not_compiled(seen)}
    changes: list[Change] = []
    if not refused["bf16"] and seen.model is not None:
        changes.append(Autocast(seen.model, seen.device))
    if not refused["fused"]:
        changes.append(Fused([each for each in seen.optimizers if can_fuse(each)]))
    if seen.has_autocast:
        changes.append(WithoutAutocast())
    changes += _settings(seen)
    if not refused["compile"]:
        if compile_too and seen.model is not None:
            changes.append(Compiled(seen.model))
        else:
            refused["compile"] = "takes long; --compile tries it"
    return changes, {name: why for name, why in refused.items() if why}


def can_fuse(optimizer: Optimizer) -> bool:
    """Return whether the fused kernel of torch can do the step of this optimizer, which does not use it."""
    step = getattr(type(optimizer), "step", None)
    if not getattr(step, "__module__", "").startswith("torch.optim"):
        return False
    groups = optimizer.param_groups
    if any("fused" not in group or group["fused"] for group in groups):
        return False
    if any(group.get("differentiable") or group.get("capturable") for group in groups):
        return False
    parameters = parameters_of([optimizer])
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() and not p.is_sparse for p in parameters)


def in_float32(output: Any) -> Any:
    """Return what a model returned with its tensors of bfloat16 as float32."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype == torch.bfloat16 else output
    if isinstance(output, Mapping):
        return type(output)({key: in_float32(value) for key, value in output.items()})  # type: ignore[call-arg]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*map(in_float32, output))
    if isinstance(output, list | tuple):
        return type(output)(map(in_float32, output))
    return output


def _settings(seen: Seen) -> list[Change]:
    settings: list[Change] = []
    if seen.device == "cpu":
        settings += [_threads(n) for n in (1, allowed_cores()) if n != torch.get_num_threads()]
    is_exact = seen.dtypes == {torch.float32} and torch.get_float32_matmul_precision() == "highest"
    if seen.device == "cuda" and is_exact and not seen.has_autocast:
        settings.append(
            Setting(
                "tf32",
                "TF32 products",
                'torch.set_float32_matmul_precision("high")',
                torch.get_float32_matmul_precision,
                torch.set_float32_matmul_precision,
                "high",
            )
        )
    if seen.detects_anomalies:
        settings.append(
            Setting(
                "no-anomaly",
                "no anomaly detection",
                "torch.autograd.set_detect_anomaly(False)",
                torch.is_anomaly_enabled,
                _detect_anomalies,
                False,
            )
        )
    return settings


def _detect_anomalies(mode: bool) -> None:
    torch.autograd.set_detect_anomaly(mode)


def _threads(n: int) -> Change:
    text = f"{counted(n, 'thread')} instead of {torch.get_num_threads()}"
    code = f"torch.set_num_threads({n}), or OMP_NUM_THREADS={n}"
    return Setting(f"threads={n}", text, code, torch.get_num_threads, torch.set_num_threads, n)


def _why_no_autocast(seen: Seen) -> str:
    if seen.model is None:
        return "the model was not found"
    if seen.has_autocast:
        return "the script uses autocast"
    if seen.dtypes != {torch.float32}:
        return "the weights are not all in float32"
    if not torch.amp.is_autocast_available(seen.device):
        return f"there is no autocast for {seen.device}"
    if seen.device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU has no bfloat16"
    return ""


def _why_not_fused(seen: Seen) -> str:
    if seen.has_scaler:
        return "GradScaler is in use"
    if any(can_fuse(optimizer) for optimizer in seen.optimizers):
        return ""
    if any(group.get("fused") for optimizer in seen.optimizers for group in optimizer.param_groups):
        return "it is in use"
    names = ", ".join(type(optimizer).__name__ for optimizer in seen.optimizers)
    return f"torch has none for {names}" if names else "the script has no optimizer"


def _why_not_compiled(seen: Seen) -> str:
    model = seen.model
    if model is None:
        return "the model was not found"
    modules = list(model.modules())
    if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in modules):
        return "the script compiles the model"
    return ""


def _move_steps(optimizer: Optimizer, device_for: Callable[[Tensor], torch.device]) -> None:
    """Move the step counts of an optimizer, which its fused kernel has beside the weights, and others on the CPU."""
    for parameter, state in optimizer.state.items():
        step = state.get("step")
        if isinstance(step, Tensor):
            state["step"] = step.to(device_for(parameter))
