"""Does a gradient flow back into each embedding that is called? Part of the check of the gradients.

A weight that is shared with the output layer gets a gradient there, so its own does not tell.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.loop.reading import some


class EmbeddingOutputs:
    """Notes which embeddings of a copied model are called, and whose outputs get a gradient."""

    def __init__(self, model: nn.Module) -> None:
        self._embeddings: dict[str, nn.Embedding] = {}
        self._called: set[str] = set()
        self._with_gradient: set[str] = set()
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding) and module.weight.requires_grad:
                self._embeddings[name] = module
                module.register_forward_hook(self._noting(name))

    def findings(self) -> Iterator[Finding]:
        """After backward, yield a finding if only other uses of a called embedding's weight gave it a gradient."""
        names = [
            name
            for name, module in self._embeddings.items()
            if name in self._called - self._with_gradient
            and module.weight.grad is not None
            and bool(module.weight.grad.any())
        ]
        if names:
            yield _detached(names)

    def _noting(self, name: str) -> Any:
        def note_gradient(gradient: Tensor) -> None:
            self._with_gradient.add(name)

        def note_call(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._called.add(name)
            if output.requires_grad:
                output.register_hook(note_gradient)  # type: ignore[no-untyped-call]

        return note_call


def _detached(names: list[str]) -> Finding:
    return Finding(
        code="missing_gradient",
        title=f"No gradient flows back into {some(names)}: the output is detached from the loss.",
        evidence="its weight gets a gradient only from another use, such as an output layer that shares it",
        why="The model cannot learn how its inputs are represented; only the other use shapes the weight.",
        fix="Between the embedding's output and the loss, look for .detach(), .data or torch.no_grad().",
    )
