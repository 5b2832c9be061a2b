"""A process of a watched script that is not recorded: it makes the changes that the first process proposes."""

from collections.abc import Sequence
from typing import Any

import torch.distributed
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.hooks import TorchHooks
from tui_lab.core.watch.model.model_search import candidates
from tui_lab.core.watch.ranks.agreement import Follower
from tui_lab.core.watch.ranks.group import shared_store
from tui_lab.core.watch.steering.steering import Steering


class FollowingRank:
    """Listens to the hooks. One per process; `active` is the present one.

    optimizers: those that are steered; empty: any.
    """

    active: "FollowingRank | None" = None

    def __init__(self) -> None:
        self.optimizers: Sequence[Optimizer] = ()
        self.steering = Steering()
        self._hooks = TorchHooks(self)
        self._follower: Follower | None = None
        self._has_failed = False

    @classmethod
    def start(cls) -> "FollowingRank":
        """Follow from now on; nothing happens if this process does already."""
        if cls.active is None:
            cls.active = cls()
            cls.active._hooks.install()
        return cls.active

    def remove(self) -> None:
        """Change nothing any more."""
        self._hooks.remove()
        self.steering.release()
        FollowingRank.active = None

    # What the hooks see

    def criterion(
        self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]
    ) -> None: ...

    def backward(self, loss: Tensor) -> None: ...

    def clipped(self, norm: Tensor, max_norm: float) -> None:
        self.steering.has_clipped = True

    def scaled(self, loss: Tensor, scaled_loss: Tensor, scale: Tensor | None) -> None: ...

    def skipped(self) -> None: ...

    def waited(self, seconds: float) -> None: ...

    def before_step(self, optimizer: Optimizer) -> None:
        if not self.optimizers or any(optimizer is steered for steered in self.optimizers):
            self.steering.before_step(optimizer)

    def after_step(self, optimizer: Optimizer) -> None:
        self.steering.after_step()
        if self._has_failed:
            return
        try:
            self._follow(optimizer)
        except Exception:  # The store is gone. What is in force stays: the first process keeps it, too.
            self._has_failed = True

    def failed(self, hook: str, error: Exception) -> None:
        self.steering.release()
        self._hooks.max_norm = None

    def _follow(self, optimizer: Optimizer) -> None:
        if self._follower is None:
            store = shared_store()
            if store is None:
                return
            self._follower = Follower(store, torch.distributed.get_rank())
        change = self._follower.stepped()
        if change is not None:
            self.steering.change(change.key, change.value, lambda: _model_of(optimizer))
            self._hooks.max_norm = self.steering.max_norm


def _model_of(optimizer: Optimizer) -> nn.Module | None:
    return next(iter(candidates([optimizer])), None)
