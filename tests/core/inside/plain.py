"""The transformer in float64 with numpy, from its state_dict alone: every product written out, no batch, no kernels."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
Change = Callable[[tuple[int, str, int], Array], Array]
"""Called with (layer, "head", number), (layer, "attention", 0) or (layer, "feed_forward", 0) and the part's output."""


@dataclass
class Passed:
    """streams, attention, feed_forward: [T, D] each; heads: by layer and head, [T, d]; logits: [T, V]."""

    streams: list[Array] = field(default_factory=list)
    attention: list[Array] = field(default_factory=list)
    feed_forward: list[Array] = field(default_factory=list)
    heads: dict[tuple[int, int], Array] = field(default_factory=dict)


def float64(state: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.detach().to(torch.float64).numpy() for name, tensor in state.items()}


def layer_norm(rows: Array, weight: Array, bias: Array) -> Array:
    mean = rows.mean(axis=1, keepdims=True)
    variance = ((rows - mean) ** 2).mean(axis=1, keepdims=True)
    normed: Array = (rows - mean) / np.sqrt(variance + 1e-5) * weight + bias
    return normed


def softmax(scores: Array) -> Array:
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights: Array = exponents / exponents.sum(axis=-1, keepdims=True)
    return weights


def run(w: dict[str, Array], x: list[int], n_heads: int, change: Change = lambda part, output: output) -> Passed:
    """Run all layers on the tokens `x`. change: what becomes of the output of a part."""
    passed = Passed()
    T = len(x)
    e = np.stack([w["W_E.weight"][token] + w["W_P.weight"][t] for t, token in enumerate(x)])
    passed.streams.append(e)
    n_layers = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("layers."))
    for layer in range(n_layers):
        p = {name.removeprefix(f"layers.{layer}."): v for name, v in w.items() if name.startswith(f"layers.{layer}.")}
        q, k, v = (e @ p[f"attention.W_{name}.weight"].T for name in "QKV")
        d = q.shape[1] // n_heads
        outputs = []
        for head in range(n_heads):
            part = slice(head * d, (head + 1) * d)
            output = np.zeros((T, d))
            for t in range(T):  # Each query by itself, over the keys until its own position.
                scores = np.array([q[t, part] @ k[s, part] / math.sqrt(d) for s in range(t + 1)])
                output[t] = sum(weight * v[s, part] for s, weight in enumerate(softmax(scores)))
            passed.heads[layer, head] = output
            outputs.append(change((layer, "head", head), output))
        attention = change((layer, "attention", 0), np.concatenate(outputs, axis=1) @ p["attention.W_O.weight"].T)
        l11 = layer_norm(e + attention, p["norm1.weight"], p["norm1.bias"])
        hidden = np.maximum(l11 @ p["W_1.weight"].T + p["W_1.bias"], 0)
        feed_forward = change((layer, "feed_forward", 0), hidden @ p["W_2.weight"].T + p["W_2.bias"])
        e = layer_norm(l11 + feed_forward, p["norm2.weight"], p["norm2.bias"])
        passed.attention.append(attention)
        passed.feed_forward.append(feed_forward)
        passed.streams.append(e)
    return passed


def probabilities(w: dict[str, Array], stream: Array) -> Array:
    return softmax(stream @ w["head.weight"].T + w["head.bias"])


def summed_loss(w: dict[str, Array], stream: Array, y: list[int]) -> tuple[float, int]:
    """Return the sum of the losses of the targets that are not -1, and their number."""
    p = probabilities(w, stream)
    losses = [-math.log(p[t, target]) for t, target in enumerate(y) if target != -1]
    return sum(losses), len(losses)
