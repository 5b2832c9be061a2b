"""Which module is at work: during the forward pass by hooks on all modules, during the backward pass by the graph."""

import re
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import dropwhile, takewhile
from pathlib import Path
from traceback import walk_stack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

from tui_lab.core.kernels.autograd_graph import graph_nodes

_TORCH = str(Path(torch.__file__).parent)
_STDLIB = sysconfig.get_paths()["stdlib"]
_HERE = str(Path(__file__).parent)
_CORE = Path(__file__).parents[1]
_DRIVERS = (_HERE, str(_CORE / "training" / "nonfinite_step.py"), str(_CORE / "watch" / "nonfinite.py"))
"""Files from which a replay is driven: what calls them is not the user's code."""
_OURS = str(Path(__file__).parents[2])
_FRAME = re.compile(r'File "(.+)", line (\d+)')
_TRACEBACK = "traceback_"
"""Where torch's anomaly mode keeps the stack that made a node of the graph."""


class Places:
    """Names the module of each operation.

    modules: those that may be called. names: name and class of each, by id; one without a name counts as a part of its
    caller.

    Global hooks are used, because a hook on a module can change what the module computes: one on `AttentionWeights`
    replaces torch's fused attention.
    """

    def __init__(self, modules: Iterable[nn.Module], names: Mapping[int, tuple[str, str]]) -> None:
        self._names = names
        self._hooked = [m for m in modules if m._forward_hooks and id(m) in names]
        """Modules with hooks of their own, which run after the global ones."""
        self._hooked_ids = {id(module) for module in self._hooked}
        self._stack: list[tuple[str, str]] = []
        self._modules: dict[Node, tuple[str, str]] = {}
        """Of the nodes of the graph. It keeps them alive: torch makes a new Python object for a node without one."""
        self._node: Node | None = None
        self._thread = threading.get_ident()
        self.entered_model = False
        """Whether the model itself was called: then operations outside of all modules are not its own."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While it lasts, calls of modules in this thread are followed."""
        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            for module in self._hooked:  # What a hook computes belongs to its module.
                stack.callback(module.register_forward_hook(self._leave_hooked, always_call=True).remove)
            yield
        self._modules.clear()
        self._node = None

    @property
    def module(self) -> tuple[str, str]:
        """The name and class of the module at work; both "" outside of all modules."""
        if self._stack:
            return self._stack[-1]
        return ("", "") if self._node is None else self._modules.get(self._node, ("", ""))

    @property
    def node_name(self) -> str:
        """The name of the node of the graph that computes gradients now, "" outside of a backward pass."""
        return "" if self._node is None else self._node.name()

    @property
    def line(self) -> str:
        """FILE:LINE of the user's code at work: the innermost frame outside of torch and of tui-lab, or ""."""
        if self._node is not None and not self._stack:
            metadata: Any = self._node.metadata  # A dictionary; torch annotates it as a function.
            frames = [_FRAME.search(frame) for frame in reversed(metadata.get(_TRACEBACK, []))]
            return _users_line((m[1], int(m[2])) for m in frames if m is not None)
        return _users_line((frame.f_code.co_filename, number) for frame, number in walk_stack(sys._getframe()))

    def follow(self, loss: Tensor) -> None:
        """Follow the backward pass that will begin at `loss`."""
        self._assign(loss)
        for node in list(graph_nodes(loss)):
            node.register_prehook(_Entered(self, node))

    def enter_node(self, node: Node | None) -> None:
        self._node = node

    def _enter(self, module: nn.Module, args: Any) -> None:
        name = self._names.get(id(module))
        if name is None or threading.get_ident() != self._thread:
            return
        self._assign(args)
        self._stack.append(name)
        self.entered_model = self.entered_model or not name[0]

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if id(module) not in self._hooked_ids:
            self._leave_hooked(module, args, output)

    def _leave_hooked(self, module: nn.Module, args: Any, output: Any) -> None:
        name = self._names.get(id(module))
        if name is None or threading.get_ident() != self._thread:
            return
        self._assign(output)
        if self._stack and self._stack[-1] == name:
            self._stack.pop()

    def _assign(self, value: Any) -> None:
        """Give the nodes behind the tensors in `value` that have no module yet to the one at work."""
        module = self._stack[-1] if self._stack else ("", "")
        waiting = [leaf.grad_fn for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._modules:
                continue
            self._modules[node] = module
            waiting += [following for following, _ in node.next_functions]


class _Entered:
    """Notes that the backward pass has reached a node."""

    def __init__(self, places: Places, node: Node) -> None:
        self._places = places
        self._node = node

    def __call__(self, gradients: Any) -> None:
        self._places.enter_node(self._node)


def _users_line(frames: Iterable[tuple[str, int]]) -> str:
    """Return the first file and line, from the innermost frame on, that is the user's.

    "" if the replay itself comes first.
    """
    frames_outside = dropwhile(lambda frame: frame[0].startswith((_HERE, _TORCH)), frames)
    for path, number in takewhile(lambda frame: not frame[0].startswith(_DRIVERS), frames_outside):
        is_library = path.startswith(_STDLIB) and "site-packages" not in path
        if not is_library and not path.startswith(("<", _TORCH, _OURS)):
            return f"{path}:{number}"
    return ""
