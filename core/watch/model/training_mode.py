"""Which calls of a model with gradients are for training.

A script may generate text or compute its validation loss without torch.no_grad(). These calls have gradients, too, but
they are made in evaluation mode, and no backward pass follows.
"""

from torch import nn


class TrainingMode:
    """Knows from the steps so far whether the script trains its model in training mode only."""

    def __init__(self) -> None:
        self._trains_in_training_mode = False
        self._trains_in_evaluation_mode = False
        self.is_evaluating = False
        """Whether the latest call with gradients was taken for one of an evaluation."""

    def stepped(self, module: nn.Module | None) -> None:
        """An optimizer steps, with the module in the mode in which its loss was computed."""
        if module is not None:
            self._trains_in_training_mode |= module.training
            self._trains_in_evaluation_mode |= not module.training

    def called(self, module: nn.Module) -> None:
        """The model is called with gradients."""
        is_known = self._trains_in_training_mode and not self._trains_in_evaluation_mode
        self.is_evaluating = is_known and not module.training

    def backward(self) -> bool:
        """A backward pass begins; return whether the latest call was for training, although it was not taken for it."""
        was_wrong = self.is_evaluating
        self._trains_in_evaluation_mode |= was_wrong
        self.is_evaluating = False
        return was_wrong
