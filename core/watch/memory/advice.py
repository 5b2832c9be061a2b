"""What would lower the memory of a script's steps, where what was measured shows that it would."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tui_lab.core.kernels.memory_estimate import size
from tui_lab.core.watch.memory.script_memory import ScriptMemory
from tui_lab.core.watch.memory.step_memory import Growth

AdviceCode = Literal[
    "graph_kept",
    "memory_grows",
    "early_gradients",
    "optimizer_state",
    "logits",
    "attention_matrices",
    "activations",
    "other_tensors",
]
LARGE_VOCABULARY = 8192
"""Classes from which computing the loss in parts is worth it: as for our own head, see core/kernels/head_loss.py."""
EARLY = 0.05
"""Of the peak: gradients in the forward pass that are worth a change."""
LARGE = 0.3
"""Of the peak, or of the activations: a part that is worth a change."""
MAIN = 0.5
"""Of the peak: a part without which the step would need less than half."""
FLOAT32 = 0.8
"""Of the activations: then 16 bits would save almost half."""


@dataclass(frozen=True)
class Advice:
    """bytes: what it is about; of growth, those of one step."""

    code: AdviceCode
    bytes: int
    text: str


def advice(memory: ScriptMemory) -> list[Advice]:
    """Return what is worth a change, the most important first. Nothing is said of what was not measured."""
    pieces = [] if memory.growth is None else [_of_growth(memory.growth)]
    total = memory.most
    if total is None:
        return pieces
    pieces += _of_gradients(memory, total)
    pieces += _of_largest(memory, total)
    pieces += _of_attention(memory, total)
    pieces += _of_others(memory, total)
    return pieces


def _of_growth(growth: Growth) -> Advice:
    where = f"{growth.variable} ({growth.place})" if growth.place else growth.variable
    if growth.nodes:
        more = f"{growth.nodes} operations" + (f" and {size(growth.bytes)}" if growth.bytes else "")
        text = f"each step adds {more}: {where or 'a tensor'} holds the autograd graph of earlier steps; "
        text += "store loss.item() or loss.detach() instead"
        return Advice("graph_kept", growth.bytes, text)
    text = f"each step adds {size(growth.bytes)} of tensors" + (f", which {where} keeps" if where else "")
    return Advice("memory_grows", growth.bytes, text)


def _of_gradients(memory: ScriptMemory, total: int) -> Iterator[Advice]:
    """Yield advice on gradients that are there in the forward pass, if the peak is lower without them."""
    step = memory.step
    most = step.most or {}
    if step.early_fate not in ("zeroed", "freed") or len(step.optimizers) > 1:
        return
    affected = ("forward", "backward") if step.early_fate == "zeroed" else ("forward",)
    others = max((n for phase, n in most.items() if phase not in affected), default=0)
    saved = min(step.early_gradients, total - others)
    if saved < EARLY * total:
        return
    text = "gradients are kept in the forward pass; zero_grad() before it would free them: "
    if step.early_fate == "zeroed":
        text = "gradients are set to 0 and kept; zero_grad(set_to_none=True), the default, would free them: up to "
    yield Advice("early_gradients", saved, f"{text}{size(saved)} less at once")


def _of_largest(memory: ScriptMemory, total: int) -> Iterator[Advice]:
    """Yield advice on the largest part."""
    step = memory.step
    kept = step.kept
    parts = {
        "optimizer": step.optimizer or 0,
        "logits": 0 if kept is None else kept.loss,
        "activations": 0 if kept is None else kept.activations,
        "weights": step.weights or 0,
        "others": sum(other.bytes for other in step.others or ()),
    }
    name = max(parts, key=lambda part: parts[part])
    if name == "optimizer" and parts[name] >= LARGE * total:
        yield Advice("optimizer_state", parts[name], _optimizer_text(step.optimizers, parts[name]))
    if name == "logits" and step.logits is not None and step.logits.shape[-1] >= LARGE_VOCABULARY:
        text = f"logits and loss are the largest part: {step.logits.shape[-1]} classes in {step.logits.dtype}; "
        text += "computing the loss a few hundred rows at a time needs a fraction of that"
        yield Advice("logits", parts[name], text)
    if name == "activations" and parts[name] >= MAIN * total and kept is not None:
        text = (
            "activations use most of the memory: try fewer rows with gradient accumulation, or checkpoint activations"
        )
        if kept.float32 >= FLOAT32 * kept.activations:
            text += "; they are float32, so torch.autocast in bfloat16 would need about half"
        yield Advice("activations", parts[name], text)


def _optimizer_text(names: tuple[str, ...], n_bytes: int) -> str:
    who = " and ".join(names) or "the optimizer"
    return (
        f"the state of {who}, {size(n_bytes)}, is the largest part, and does not depend on the batch; an optimizer "
        "with less state (one moment, 8 bits, factored) or fewer trained weights (LoRA) would need less"
    )


def _of_attention(memory: ScriptMemory, total: int) -> Iterator[Advice]:
    kept = memory.step.kept
    if kept is not None and kept.attention >= max(LARGE * kept.activations, EARLY * total):
        text = (
            f"{size(kept.attention)} of the activations are T x T matrices; F.scaled_dot_product_attention avoids them"
        )
        yield Advice("attention_matrices", kept.attention, text)


def _of_others(memory: ScriptMemory, total: int) -> Iterator[Advice]:
    others = memory.step.others or ()
    if others and others[0].what and others[0].bytes >= LARGE * total:
        text = f"{others[0].what}, {size(others[0].bytes)}, does not belong to the model being trained"
        yield Advice("other_tensors", others[0].bytes, text)
