"""What a recorder hands on of a loop, for those who keep its batches and outputs."""

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer


class CallCapture:
    """LoopRecorder calls these methods, which do nothing unless they are overridden."""

    def training_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An outermost module with trainable parameters is called with gradients."""

    def returned(self, output: Any) -> None:
        """The call of `training_call` returned."""

    def criterion(self, name: str, output: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """A loss function of torch returned `output`, with gradients. options: its other arguments, with `input`."""

    def backward(self, loss: Tensor, scale: float) -> None:
        """Backpropagation of the scalar `loss` begins; a GradScaler multiplied it by `scale`."""

    def created(self, optimizer: Optimizer) -> None:
        """The loop has created an optimizer."""

    def evaluated(self) -> None:
        """A module with parameters has been called without gradients."""
