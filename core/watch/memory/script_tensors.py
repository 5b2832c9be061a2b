"""The weights of a script's models, their gradients, and what its optimizers keep of them."""

from torch import Tensor

from tui_lab.core.watch.memory.kept_tensors import KeptTensors
from tui_lab.core.watch.memory.live_tensors import Sizes, all_tensors, device_of, sizes_of, state_of, weights_of
from tui_lab.core.watch.memory.step_memory import EarlyFate
from tui_lab.core.watch.optimizer.optimizers import ScriptOptimizers


class ScriptTensors:
    """Looks at the modules that have been at work and at the optimizers that have stepped, as they are now."""

    def __init__(self, kept: KeptTensors) -> None:
        self.optimizers = ScriptOptimizers()
        self._kept = kept

    @property
    def weights(self) -> list[Tensor]:
        return weights_of(self._kept.at_work.roots, self.optimizers.present)

    @property
    def device(self) -> str:
        """The type of device that most weights are on."""
        return device_of(self.weights)

    @property
    def gradients(self) -> Sizes:
        return sizes_of(p.grad for p in self.weights)

    @property
    def n_gradient_bytes(self) -> int:
        return sum(self.gradients.values())

    @property
    def frozen(self) -> Sizes:
        """The weights that no optimizer has and that get no gradient."""
        trained = {id(p) for each in self.optimizers.present for group in each.param_groups for p in group["params"]}
        return sizes_of(p for p in self.weights if id(p) not in trained and not p.requires_grad)

    @property
    def buffers(self) -> Sizes:
        return sizes_of(buffer for root in self._kept.at_work.roots for buffer in root.buffers())

    @property
    def state(self) -> Sizes:
        """What the optimizers keep; not the weights, which some of them keep, too."""
        in_weights = sizes_of(self.weights)
        state = sizes_of(state_of(self.optimizers.present))
        return {address: size for address, size in state.items() if address not in in_weights}

    @property
    def known(self) -> Sizes:
        """All of these."""
        return sizes_of(self.weights) | self.gradients | self.buffers | self.state

    def held(self) -> tuple[list[Tensor], int]:
        """Return all tensors on the device, and their bytes with those that autograd keeps."""
        device = self.device
        tensors = all_tensors(device)
        kept = {address: s.bytes for address, s in self._kept.storages.items() if s.device == device}
        return tensors, sum((sizes_of(tensors) | kept | self.gradients).values())

    def fate_of_gradients(self) -> EarlyFate:
        """Return what has become of gradients that were there before."""
        gradients = [p.grad for p in self.weights if p.grad is not None]
        if not gradients:
            return "freed"
        return "kept" if any(bool(each.any()) for each in gradients) else "zeroed"
