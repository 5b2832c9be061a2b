"""The loss scale of a GradScaler: which losses it multiplied, and which gradients were added without it."""

from collections.abc import Collection

from torch import Tensor

from tui_lab.core.kernels.autograd_graph import graph_nodes


class ScaledLosses:
    """The losses that GradScaler multiplied and that were not backpropagated yet."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        """Each loss and the product that GradScaler made of it."""

    def add(self, loss: Tensor, product: Tensor) -> None:
        """Note that GradScaler multiplied a loss."""
        self._pairs.append((loss, product))

    def take(self, loss: Tensor) -> Tensor | None:
        """Return the loss that was multiplied to give `loss`; None if it is not such a product."""
        for number, (unscaled, product) in enumerate(self._pairs):
            if product is loss:
                del self._pairs[number]
                return unscaled
        return None

    def contains_part_of(self, loss: Tensor) -> bool:
        """Return whether `loss` was computed from a product, such as their sum."""
        products = [product.grad_fn for _, product in self._pairs if product.grad_fn is not None]
        return bool(products) and any(node is product for node in graph_nodes(loss) for product in products)

    def clear(self) -> None:
        """Forget all: an optimizer steps."""
        self._pairs.clear()


class MixedScales:
    """Which parameters got a gradient with the loss scale, and which of them another one without it.

    Call `begin` before a backward pass, `added` for each parameter that it gives a gradient, `kept` with those whose
    gradients have not been cleared, and `divided` when GradScaler has divided: what is added later needs no scale.
    """

    def __init__(self) -> None:
        self._scaled: set[int] = set()
        self._unscaled: dict[int, str] = {}
        """The line of the backward call, by the id of the parameter."""
        self._is_scaled: bool | None = None
        self._line = ""
        self._is_divided = False

    def begin(self, line: str, *, is_scaled: bool | None) -> None:
        """A backward pass begins. is_scaled: whether its loss was multiplied by a scale above 1; None if unknown."""
        self._line = line
        self._is_scaled = None if self._is_divided else is_scaled

    def added(self, key: int) -> None:
        """The backward pass gave the parameter with the id `key` a gradient other than zero."""
        if self._is_scaled:
            self._scaled.add(key)
        elif self._is_scaled is False:
            self._unscaled.setdefault(key, self._line)

    def kept(self, keys: Collection[int]) -> None:
        """Only these parameters have a gradient."""
        self._scaled &= set(keys)
        self._unscaled = {key: line for key, line in self._unscaled.items() if key in keys}

    def divided(self) -> None:
        """GradScaler has divided the gradients by the scale."""
        self._is_divided = True

    @property
    def line(self) -> str | None:
        """The line of a backward call that added to scaled gradients without the scale; None if there is none."""
        return next((line for key, line in self._unscaled.items() if key in self._scaled), None)
