"""The model of a script as the looks inside a model take it: ids int64 [B, T] → logits [B, T, V]."""

import torch
from torch import Tensor, nn

from tui_lab.core.kernels.precision import Precision
from tui_lab.core.user_code.external_model import WrappedModel
from tui_lab.core.watch.answers.generation import logits_in
from tui_lab.core.watch.model.model_calls import CallForm

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
