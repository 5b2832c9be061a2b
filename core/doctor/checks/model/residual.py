"""Do blocks with attention add their input to what they compute?

The mean of the diagonal of a block's Jacobian, by random signs (Hutchinson 1990), is near one where the input is added
back, 1 / σ with a norm after the sum, and near zero where it is not. A finding needs a second proof: that no chain of
additions, norms and scalings leads from the output back to the input. Cost: some passes through each block.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.measures.blocks import first_vectors, forward_line, repeated_blocks
from tui_lab.core.doctor.measures.dependence import record_probe
from tui_lab.core.doctor.program.target import Target

LOWEST = 0.06
"""Dropped: -0.05 to 0.00. Added: 0.99 to 1.01, with a norm after the sum 0.66 to 0.85, the worst healthy one 0.09."""
ELEMENTS = 20_000
"""Random signs that the estimate averages over: its standard error is then below 0.01."""
_STOPS = (
    "Mm", "Addmm", "Bmm", "Baddbmm", "Linear", "Convolution", "ScaledDotProduct", "Softmax", "Embedding", "Gelu",
    "Relu", "Silu", "Sigmoid", "Tanh", "Rnn", "Lstm", "Gru",
)  # fmt: skip
"""Parts of the names of autograd's nodes at which a residual path ends."""
_WHY = "Without residual paths, gradients shrink from block to block, and the token itself gets lost."


class _Block:
    """A block and the arguments that it is called with."""

    def __init__(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.name = name
        self.module = module
        self._args = _with_copied_caches(args)
        self._kwargs = _with_copied_caches(kwargs)
        self._key: int | str | None = next((i for i, value in enumerate(args) if first_vectors(value) is value), None)
        if self._key is None:
            self._key = next((key for key, value in kwargs.items() if first_vectors(value) is value), None)

    @property
    def x(self) -> Tensor | None:
        """The first argument that is a float tensor of three dimensions; None without one, or if it is nested."""
        if self._key is None:
            return None
        value: Tensor = self._args[self._key] if isinstance(self._key, int) else self._kwargs[self._key]
        # The fast path of torch's encoder, which has no gradients, packs padded rows.
        return None if value.is_nested else value.detach()

    def output(self, x: Tensor) -> Tensor | None:
        """Return the block's output for another x."""
        args = tuple(x if i == self._key else value for i, value in enumerate(self._args))
        kwargs = {key: x if key == self._key else value for key, value in self._kwargs.items()}
        return first_vectors(self.module(*_with_copied_caches(args), **_with_copied_caches(kwargs)))


def _with_copied_caches(arguments: Any) -> Any:
    """Return arguments with copies of objects, such as a cache of keys and values that each call extends."""
    plain = (Tensor, nn.Module, int, float, str, list, tuple, dict, type(None))

    def copied(value: Any) -> Any:
        return value if isinstance(value, plain) or callable(value) else copy.deepcopy(value)

    if isinstance(arguments, dict):
        return {key: copied(value) for key, value in arguments.items()}
    return tuple(map(copied, arguments))


def check(target: Target) -> Iterator[Finding]:
    trial = target.fresh()
    trial.model.eval()
    calls = record_probe(trial).calls
    only_attending = trial.tokens is None  # Stacks of layers without residual paths are common in other networks.
    judged = False
    for list_name, blocks in repeated_blocks(trial.model):
        names = [f"{list_name}.{number}" if list_name else str(number) for number in range(len(blocks))]
        attending = {name for name in names if any((call.module + ".").startswith(name + ".") for call in calls)}
        chosen = {
            name: block
            for name, block in zip(names, blocks, strict=True)
            if name in attending or (_may_have(block) and not only_attending)
        }
        for block in _called(trial, chosen):
            trace = _trace(block, trial.seed)
            if trace is None:
                continue
            judged = True
            finding = _finding(block, trace, block.name in attending) if abs(trace) < LOWEST else None
            if finding is not None:
                yield finding
                return
    if not judged:
        raise NotApplicable("the model has no list of blocks with attention that map vectors to vectors")


def _may_have(block: nn.Module) -> bool:
    """Return whether a block without attention normalizes its input, and has no recurrent layer, as in Mamba."""
    modules = list(block.modules())
    norms = [module for module in modules if type(module).__name__.endswith("Norm")]
    return bool(norms) and not any(isinstance(module, nn.RNNBase) for module in modules)


def _called(target: Target, blocks: dict[str, nn.Module]) -> list[_Block]:
    """Return the blocks with the arguments of their first call."""
    called: dict[str, _Block] = {}
    handles = []
    for name, module in blocks.items():

        def keep(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            called.setdefault(name, _Block(name, module, args, kwargs))

        handles.append(module.register_forward_pre_hook(keep, with_kwargs=True))
    try:
        with torch.no_grad():
            target.output(target.probe.batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(called.values())


def _trace(block: _Block, seed: int) -> float | None:
    """Return the mean of the diagonal of ∂output / ∂x; None if the block does not map x to the same shape."""
    x = block.x
    if x is None:
        return None
    generator = torch.Generator().manual_seed(seed)
    repeats = max(1, min(32, ELEMENTS // max(x.numel(), 1)))
    total = 0.0
    for _ in range(repeats):
        leaf = x.clone().requires_grad_()
        with torch.enable_grad():
            output = block.output(leaf)
        if output is None or output.shape != x.shape or not output.requires_grad:
            return None
        signs = (torch.randint(0, 2, x.shape, generator=generator) * 2 - 1).to(output)
        [gradient] = torch.autograd.grad((output * signs).sum(), leaf, allow_unused=True)
        if gradient is not None:
            total += float((gradient * signs).mean())
    return total / repeats


def _ends(block: _Block) -> list[str] | None:
    """Return the submodules at which the paths of additions from the output end; None if one reaches the input."""
    x = block.x
    assert x is not None
    leaf = x.clone().requires_grad_()
    order: dict[Any, str] = {}
    handles = []
    for name, module in block.module.named_modules():

        def keep(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            vectors = first_vectors(output)
            if name and vectors is not None and vectors.grad_fn is not None:
                order.pop(vectors.grad_fn, None)
                order[vectors.grad_fn] = name

        handles.append(module.register_forward_hook(keep))
    try:
        with torch.enable_grad():
            output = block.output(leaf)
    finally:
        for handle in handles:
            handle.remove()
    assert output is not None
    visited = _reached(output, leaf)
    return None if visited is None else [name for node, name in order.items() if node in visited]


def _reached(output: Tensor, leaf: Tensor) -> set[Any] | None:
    """Return the nodes that additions, norms and scalings lead to from the output; None if the leaf is one of them."""
    stack = [output.grad_fn]
    visited = set()
    while stack:
        node = stack.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if getattr(node, "variable", None) is leaf:
            return None
        if any(stop.lower() in type(node).__name__.lower() for stop in _STOPS):
            continue
        stack += [following for following, _ in node.next_functions]
    return visited


def _finding(block: _Block, trace: float, has_attention: bool) -> Finding | None:
    """Return what a trace near zero means; None if it is near zero only because a norm shrinks a large input."""
    ends = _ends(block)
    if ends is not None:
        return _no_residual(block, trace, ends, has_attention)
    return None if abs(trace) * _shrinking(block) >= LOWEST else _weak_residual(block, trace)


def _shrinking(block: _Block) -> float:
    """Return by how much the block's output is smaller than its input, 1 if it is not."""
    x = block.x
    assert x is not None
    with torch.no_grad():
        output = block.output(x)
    return max(1.0, float(x.std() / output.std())) if output is not None else 1.0


def _no_residual(block: _Block, trace: float, ends: list[str], has_attention: bool) -> Finding:
    part = f" after {ends[0]}" if ends else ""
    proof = f"; the paths of additions from its output end at {', '.join(ends)}" if ends else ""
    return Finding(
        code="no_residual",
        title=f"The residual path of {block.name} is missing{part}: its input is not added to its output.",
        evidence=f"the mean of the diagonal of ∂output / ∂input is {trace:.2f}; with a residual path it is near 1"
        + proof,
        why=_WHY,
        fix="Add the input back after attention and after the feed-forward part: x = x + attention(norm(x)).",
        kind="finding" if has_attention else "hint",
        location=forward_line(block.module),
    )


def _weak_residual(block: _Block, trace: float) -> Finding:
    return Finding(
        code="no_residual",
        title=f"Almost nothing passes the residual path of {block.name}.",
        evidence=f"the mean of the diagonal of ∂output / ∂input is {trace:.2f}; with a residual path it is near 1; "
        "there is a path of additions from its input to its output",
        why=_WHY,
        fix="Look for what the input is multiplied by on this path, and for a sublayer whose output is much larger.",
        kind="hint",
        location=forward_line(block.module),
    )
