"""The repeated blocks of a model, and what goes into and comes out of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.user_code.user_files import is_user_code

MIN_PARAMETERS = 5
"""A block has more parameter tensors than this many minus one: stacks of single layers are not blocks."""


def repeated_blocks(model: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    """Yield the name and the modules of each list of at least two blocks of the same type."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        blocks: list[nn.Module | None] = list(module)  # A list may have gaps.
        if (
            blocks[0] is not None
            and type(blocks[0]) is type(blocks[1])
            and sum(1 for _ in blocks[0].parameters()) >= MIN_PARAMETERS
        ):
            yield name, [block for block in blocks if block is not None]


def outputs_of(block: nn.Module, call: Callable[[], object]) -> Tensor | None:
    """Run `call`, and return the first float tensor [·, ·, C] that the block returns, or None if it is not called."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = first_vectors(output)
        if tensor is not None:
            outputs.append(tensor.detach())

    handle = block.register_forward_hook(keep)
    try:
        with torch.no_grad():
            call()
    finally:
        handle.remove()
    return outputs[0] if outputs else None


def first_vectors(value: Any) -> Tensor | None:
    """Return a float tensor of three dimensions, or the first one in a tuple, or None."""
    values = value if isinstance(value, tuple | list) else [value]
    return next((t for t in values if isinstance(t, Tensor) and t.is_floating_point() and t.dim() == 3), None)


def forward_line(module: nn.Module) -> str:
    """Return where the module's forward begins, "model.py:42"; empty for a library's."""
    code = getattr(type(module).forward, "__code__", None)
    if code is None or not is_user_code(code.co_filename):
        return ""
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"
