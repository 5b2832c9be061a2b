"""The parameter count in the appendix's notation. It needs no torch, so a form can show it while the user types."""

from dataclasses import dataclass

from tui_lab.core.config.schema import ModelConfig


@dataclass(frozen=True)
class ParameterRow:
    """A line of the parameter count: the appendix's symbol, its shape as text, and the number over all layers."""

    symbol: str
    shape: str
    count: int


def parameter_table(config: ModelConfig, n_vocab: int) -> list[ParameterRow]:
    """Return the parameter count in the appendix's notation, without building a model."""
    d = config.d_model
    k = config.n_layers
    h = config.n_heads
    v = config.d_head
    f = config.d_ff
    n = config.context
    return [
        ParameterRow("W_E", f"V·d = {n_vocab}·{d}", n_vocab * d),
        ParameterRow("W_P", f"n·d = {n}·{d}", n * d),
        *(ParameterRow(name, f"k·d·h·v = {k}·{d}·{h}·{v}", k * d * h * v) for name in ("W_Q", "W_K", "W_V")),
        ParameterRow("W_O", f"k·h·v·d = {k}·{h}·{v}·{d}", k * h * v * d),
        ParameterRow("LayerNorm", f"k·2·2d = {k}·2·{2 * d}", k * 4 * d),
        ParameterRow("W_1, b_1", f"k·(d·f + f) = {k}·({d}·{f} + {f})", k * (d * f + f)),
        ParameterRow("W_2, b_2", f"k·(f·d + d) = {k}·({f}·{d} + {d})", k * (f * d + d)),
        ParameterRow("W, b", f"d·V + V = {d}·{n_vocab} + {n_vocab}", d * n_vocab + n_vocab),
    ]


def count_parameters(config: ModelConfig, n_vocab: int) -> int:
    """Return the number of parameters of the built-in model."""
    return sum(row.count for row in parameter_table(config, n_vocab))
