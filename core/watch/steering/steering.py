"""Live changes of a script's settings, applied before each optimizer step and undone after it."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.model.model_search import gradients_of, parameters_of

DROPOUT_ATTRIBUTES = ("dropout", "dropout_p", "attn_dropout", "attention_dropout", "resid_dropout")
"""Attributes of modules that hold a dropout rate as a number, such as the one nanoGPT passes to its attention."""


class StopRequested(KeyboardInterrupt):
    """The user asked to stop. As for Ctrl+C, the script's own cleanup runs, and `except Exception` does not hide it."""


class Steering:
    """The changes in force. With none, nothing of the script is touched.

    weight_decay, grad_clip: None: the script's own. grad_clip: the norm that the gradients are clipped to, 0: not at
    all.
    """

    def __init__(self) -> None:
        self.lr_factor = 1.0
        self.weight_decay: float | None = None
        self.grad_clip: float | None = None
        self.has_clipped = False
        """Whether the script has clipped the gradients of the present step itself."""
        self._own_values: list[tuple[dict[str, Any], str, Any]] = []
        self._own_dropout: list[tuple[nn.Module, str, float]] = []
        self._dropout_model: weakref.ref[nn.Module] | None = None
        """The model whose rates `_own_dropout` has."""

    @property
    def max_norm(self) -> float | None:
        """The norm for the script's own calls of clip_grad_norm_; None: its own."""
        return float("inf") if self.grad_clip == 0 else self.grad_clip

    def before_step(self, optimizer: Optimizer) -> None:
        """Put the changes into `optimizer` for this step."""
        self.after_step()  # A step that raised an exception has left its changes.
        if self.grad_clip and not self.has_clipped:
            parameters = parameters_of([optimizer])
            torch.nn.utils.clip_grads_with_norm_(parameters, self.grad_clip, gradient_norm(optimizer))
        self.has_clipped = False
        for group in optimizer.param_groups:
            if self.lr_factor != 1.0:
                self._set(group, "lr", group["lr"] * self.lr_factor)
            if self.weight_decay is not None and group.get("weight_decay"):
                self._set(group, "weight_decay", self.weight_decay)

    def after_step(self) -> None:
        """Give the optimizer its own values back: a scheduler computes the next rate from them."""
        while self._own_values:
            group, name, value = self._own_values.pop()
            group[name] = value

    def release(self) -> None:
        """Change nothing any more; every dropout layer has its own rate again."""
        self.after_step()
        self._restore_dropout()
        self.lr_factor = 1.0
        self.weight_decay = None
        self.grad_clip = None

    def _set(self, group: dict[str, Any], name: str, value: Any) -> None:
        self._own_values.append((group, name, group[name]))
        group[name] = value

    def change(self, key: str, value: float | None, model: Callable[[], nn.Module | None]) -> None:
        """Put the value of a setting into force; None: the script's own. model: of which dropout is changed."""
        match key:
            case "optim.lr_factor":
                self.lr_factor = 1.0 if value is None else value
            case "optim.weight_decay":
                self.weight_decay = value
            case "optim.grad_clip":
                self.grad_clip = value
            case "model.dropout":
                changed_model = model()
                if changed_model is not None:
                    self.set_dropout(changed_model, value)

    def set_dropout(self, model: nn.Module, rate: float | None) -> None:
        """Set every dropout rate of `model`; None gives each layer its own rate back."""
        if self._dropout_model is None or self._dropout_model() is not model:
            self._restore_dropout()
            self._own_dropout = list(dropout_rates(model))
            self._dropout_model = weakref.ref(model)
        for module, name, own in self._own_dropout:
            setattr(module, name, own if rate is None else rate)

    def _restore_dropout(self) -> None:
        for module, name, own in self._own_dropout:
            setattr(module, name, own)
        self._own_dropout = []
        self._dropout_model = None


def dropout_rates(model: nn.Module) -> Iterable[tuple[nn.Module, str, float]]:
    """Yield every module with a dropout rate, the name of its attribute, and the rate."""
    for module in model.modules():
        names = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else DROPOUT_ATTRIBUTES
        for name in names:
            rate = vars(module).get(name)
            if isinstance(rate, float) and 0 <= rate <= 1:
                yield module, name, rate


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """Return the norm of all gradients of `optimizer`.

    GradScaler's factor, which a fused optimizer still has in them, is taken out.
    """
    norm = torch.nn.utils.get_total_norm(gradients_of([optimizer]))
    scale = getattr(optimizer, "grad_scale", None)
    return norm if scale is None else norm / scale
