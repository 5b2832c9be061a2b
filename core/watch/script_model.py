"""The model of a script as the looks inside a model take it: ids int64 [B, T] → logits [B, T, V]."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tui_lab.core.kernels.precision import Precision
from tui_lab.core.user_code.external_model import WrappedModel
from tui_lab.core.watch.generation import logits_in
from tui_lab.core.watch.model_calls import CallForm

_PRECISIONS: dict[torch.dtype, Precision] = {torch.bfloat16: "bf16", torch.float16: "fp16"}


class ScriptModel(WrappedModel):
    """Calls a script's model as the script does; `inner` stays as it is."""

    def __init__(self, inner: nn.Module, form: CallForm, ids: Tensor) -> None:
        """ids: a row [1, T], with which the model is called once. Raises ConfigError if it returns no logits."""
        dtype = next((p.dtype for p in inner.parameters() if p.is_floating_point()), torch.float32)
        super().__init__(inner, _PRECISIONS.get(dtype, "fp32"))
        self._forward = form.forward(inner)
        logits = logits_in(self._forward(ids))
        self.n_vocab = int(logits.shape[-1])
        has_last_only = logits.dim() == 3 and logits.shape[1] == 1 < ids.shape[1]
        if has_last_only and form.y is not None:
            # As in nanoGPT, where only a call with targets computes the logits of every position.
            self._forward = form.with_targets(inner)

    def forward(self, ids: Tensor) -> Tensor:
        return logits_in(self._forward(ids))


@contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Give every module its buffers back, with their values: a forward pass may count or cache in them."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values in kept:
                module._buffers[name] = buffer
                if not torch.equal(buffer, values):
                    buffer.copy_(values)
