"""What holds the memory of a training step, computed before the model is built. It needs no torch.

The weights, gradients and optimizer state are exact. So are the activations on a CPU: what autograd keeps of each layer
between the forward and the backward pass, read off with torch's saved-tensor hooks in each precision (torch 2.13).
On a GPU they are those of the same operators with 16-bit attention, and have not been compared with one.
"""

from dataclasses import dataclass

from tui_lab.core.config.schema import CHUNK_FROM_VOCAB, Config
from tui_lab.core.kernels.memory_estimate import (
    FLOAT_BYTES,
    HALF_BYTES,
    HEAD_ROWS,
    INT_BYTES,
    drawn,
    positions,
    row_length,
)
from tui_lab.core.kernels.parameter_count import count_parameters

LAYER_MATRICES = ("W_Q", "W_K", "W_V", "W_O", "W_1", "W_2")
TENSORS_PER_LAYER = 12
OTHER_TENSORS = 4
"""W_E, W_P, and the head's weight and bias."""
LARGEST_CONCATENATED = 2**20
"""As in train_step.py: gradient entries up to which their norm is that of a copy of all of them."""
SOFTMAX_BYTES = 2**21
"""As in bf16_head.py: float32 probabilities at once."""


@dataclass(frozen=True)
class Breakdown:
    """Bytes. activations, head: kept by the layers, and by the head and the loss, for the gradient of a micro-batch.

    logits: held for a moment while the head's gradient is computed. copies: of the gradients or weights, for the
    gradient norm and the update ratio. step: the most that a step holds at once, which is less than the sum, because
    activations are freed while gradients are made. checkpoint: the copies while a checkpoint is written, on the CPU.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    logits: int
    batch: int
    copies: int
    step: int
    checkpoint: int


def breakdown(config: Config, n_vocab: int, *, on_cpu: bool = True) -> Breakdown:
    """Return the memory of a step of the built-in model, with `auto` settings as fp32 and BLAS."""
    assert not config.model.source, "the parameters of a user's model are unknown"
    count = count_parameters(config.model, n_vocab)
    weights = FLOAT_BYTES * count
    optimizer = optimizer_bytes(config, n_vocab)
    activations = config.model.n_layers * _layer(config, on_cpu) + _embedding(config)
    head, logits = _head(config, n_vocab)
    batch = 2 * drawn(config) * row_length(config) * INT_BYTES
    layers = FLOAT_BYTES * _hidden_entries(config)
    joined = weights if count <= LARGEST_CONCATENATED else 0
    # The gradients of earlier micro-batches are there while the next one is computed.
    kept_gradients = weights if min(config.train.accumulate, drawn(config)) > 1 else 0
    backward = activations + max(head + logits, _layer_gradients(config)) + kept_gradients
    at_once = max(backward, weights + max(layers, joined), 2 * layers)
    return Breakdown(
        weights=weights,
        gradients=weights,
        optimizer=optimizer,
        activations=activations,
        head=head,
        logits=logits,
        batch=batch,
        copies=max(layers, joined),
        step=weights + optimizer + batch + at_once,
        checkpoint=weights + optimizer + weights,
    )


def optimizer_bytes(config: Config, n_vocab: int) -> int:
    """Return the bytes of the optimizer's state: moments in float32, and a step counter per tensor of Adam."""
    count = count_parameters(config.model, n_vocab)
    n_layers = config.model.n_layers
    n_tensors = OTHER_TENSORS + TENSORS_PER_LAYER * n_layers
    match config.optim.name:
        case "sgd":
            return 0
        case "momentum":
            return FLOAT_BYTES * count
        case "muon":
            hidden = _hidden_entries(config)
            n_others = n_tensors - len(LAYER_MATRICES) * n_layers
            return FLOAT_BYTES * (hidden + 2 * (count - hidden) + n_others)
        case _:
            return FLOAT_BYTES * (2 * count + n_tensors)


def _hidden_entries(config: Config) -> int:
    """Return the entries of all matrices of the layers."""
    model = config.model
    inner = model.n_heads * model.d_head
    return model.n_layers * (4 * model.d_model * inner + 2 * model.d_model * model.d_ff)


def _float_bytes(config: Config) -> int:
    """Return the bytes of a number in the products."""
    return HALF_BYTES if config.train.precision in ("bf16", "fp16") else FLOAT_BYTES


def _layer(config: Config, on_cpu: bool) -> int:
    """Return what one layer keeps for its gradient."""
    model = config.model
    n = positions(config)
    size = _float_bytes(config)
    half = size == HALF_BYTES
    inner = n * model.n_heads * model.d_head
    width = n * model.d_model
    # Both sums before their norms, mean and deviation of each norm, the ReLU's output.
    kept = 2 * width * FLOAT_BYTES + 4 * n * FLOAT_BYTES + n * model.d_ff * size
    if half:
        # The 16-bit copies: of the input, once for each of q, k and v, of the feed-forward's input, of the matrices.
        kept += 4 * width * size + _hidden_entries(config) // model.n_layers * size
    else:
        kept += 2 * width * size
    return kept + (
        _explicit_attention(config, inner) if _has_weights(config, on_cpu) else _fused(config, inner, on_cpu)
    )


def _layer_gradients(config: Config) -> int:
    """Return what the backward pass of the feed-forward layer holds for a moment: three gradients of activations."""
    n = positions(config)
    return 2 * n * config.model.d_ff * _float_bytes(config) + n * config.model.d_model * FLOAT_BYTES


def _has_weights(config: Config, on_cpu: bool) -> bool:
    """Return whether attention weights are computed: for dropout on a CPU."""
    return on_cpu and config.model.dropout > 0


def _fused(config: Config, inner: int, on_cpu: bool) -> int:
    """Return what torch's fused attention keeps: q, k, v, its output, and a float32 number for each row."""
    n = positions(config)
    model = config.model
    size = _float_bytes(config)
    # On a CPU it computes in float32, and its output is copied to 16 bits for the next product.
    inside = FLOAT_BYTES if on_cpu else size
    copied = inner * size if inside != size else 0
    masks = 2 * n * model.d_model if model.dropout > 0 else 0  # A byte for each number.
    return 4 * inner * inside + copied + n * model.n_heads * FLOAT_BYTES + masks


def _explicit_attention(config: Config, inner: int) -> int:
    """Return what attention with dropout keeps: q, k, v, the heads, weights, their mask and product, two more masks."""
    n = positions(config)
    length = row_length(config)
    size = _float_bytes(config)
    weights = 3 * n * config.model.n_heads * length * size + length * length
    return 4 * inner * size + weights + 2 * n * config.model.d_model * size


def _embedding(config: Config) -> int:
    mask = positions(config) * config.model.d_model * FLOAT_BYTES if config.model.dropout > 0 else 0
    return row_length(config) * INT_BYTES + mask


def _head(config: Config, n_vocab: int) -> tuple[int, int]:
    """Return what the head and the loss keep for the gradient, and what they hold besides for a moment."""
    n = positions(config)
    d = config.model.d_model
    size = _float_bytes(config)
    copied = size * n_vocab * d if size == HALF_BYTES else 0
    gradient = FLOAT_BYTES * n_vocab * d
    if n_vocab < CHUNK_FROM_VOCAB:
        # Kept: h, the matrix in 16 bits, the logarithms of the probabilities. For a moment: their gradient.
        return size * n * d + copied + FLOAT_BYTES * (n * n_vocab + 1), FLOAT_BYTES * n * n_vocab
    rows = min(n, config.train.head_rows or HEAD_ROWS)
    if config.train.precision == "fp16":
        # Kept: h. For a moment: probabilities of a chunk, their gradient, also in 16 bits, and gradients of the matrix.
        moment = rows * n_vocab * (2 * FLOAT_BYTES + HALF_BYTES)
        return FLOAT_BYTES * n * d, moment + copied + 2 * gradient
    kept = FLOAT_BYTES * (n * d + (d + 1) * n_vocab)  # The gradients, computed in the forward pass.
    chunk = rows * n_vocab * size
    if config.train.precision in ("fp32", "tf32") and config.train.matmul != "onednn":
        return kept, max(chunk, gradient)
    # For a moment: a chunk's logits, the matrix in 16 bits, and the gradient of the chunk; or, in the backward pass,
    # the contiguous gradient.
    in_float32 = SOFTMAX_BYTES if size == HALF_BYTES else 0
    return kept, max(chunk + in_float32 + copied + size * (d + 1) * n_vocab, gradient)
