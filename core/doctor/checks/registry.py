"""All checks, in the order in which they run."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tui_lab.core.doctor.checks.data import (
    data_order,
    loop_rows,
    prompts,
    row_ends,
    stored_data,
    targets,
    token_ids,
    validation_leak,
    vocabulary_size,
)
from tui_lab.core.doctor.checks.loss import criterion_inputs, detached_loss, initial_loss, loss, trained_loss
from tui_lab.core.doctor.checks.model import (
    attention,
    cache,
    causality,
    dead_relus,
    determinism,
    devices,
    examples,
    forward,
    modes,
    padded_rows,
    padding_effect,
    positions,
    prefix,
    residual,
    series,
)
from tui_lab.core.doctor.checks.training import (
    averaged_buffers,
    carried_state,
    gradient_flow,
    gradient_reset,
    gradients,
    loop_gradients,
    loop_modes,
    loop_rates,
    loss_progress,
    loss_values,
    lost_updates,
    optimizer_parameters,
    optimizer_rebuilt,
    optimizer_step,
    overfit,
    self_average,
    trained_reference,
)
from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.program.target import Target


@dataclass(frozen=True)
class Check:
    """blocks: codes after which no further check runs, since it would only repeat them.

    trains: whether the check trains for many updates. It is not run after a finding, except one about the data: rows
    can be memorized whatever their targets and order are.
    compares: whether the check compares outputs, which means nothing if they differ by chance.
    needs_graph: whether the check asks for the gradient of the loss, also of that in the update.
    ask: returns what the check asks, where its module does not say it: of a plug-in's check.
    """

    name: str
    run: Callable[[Target], Iterator[Finding]]
    blocks: tuple[FindingCode, ...] = ()
    trains: bool = False
    compares: bool = False
    needs_graph: bool = False
    ask: Callable[[], str] | None = None

    @property
    def question(self) -> str:
        """What the check asks: the first sentences of its module, up to what it costs."""
        if self.ask is not None:
            return self.ask()
        text = inspect.getdoc(inspect.getmodule(self.run)) or ""
        return " ".join(text.partition("Cost:")[0].split())


CHECKS = (
    Check("token ids", token_ids.check, ("wrong_vocab",)),
    Check("vocabulary size", vocabulary_size.check),
    Check("data order", data_order.check),
    Check("rows of the loop", loop_rows.check),
    Check("targets", targets.check),
    Check("row ends", row_ends.check),
    Check("prompts", prompts.check),
    Check("validation leak", validation_leak.check),
    Check("stored data", stored_data.check),
    Check("carried state", carried_state.check),
    Check("forward", forward.check, ("forward_fails", "output_shape", "not_finite")),
    Check("loss graph", detached_loss.check),
    Check("determinism", determinism.check),
    Check("loss", loss.check, needs_graph=True),
    Check("trained loss", trained_loss.check, needs_graph=True),
    Check("criterion inputs", criterion_inputs.check),
    Check("attention", attention.check),
    Check("padded rows", padded_rows.check),
    Check("causality", causality.check, compares=True),
    Check("series", series.check, compares=True),
    Check("examples", examples.check, compares=True),
    Check("positions", positions.check, compares=True),
    Check("residual paths", residual.check),
    Check("padding", padding_effect.check, compares=True),
    Check("prefix", prefix.check, compares=True),
    Check("modes", modes.check, compares=True),
    Check("cache", cache.check, compares=True),
    Check("devices", devices.check, compares=True),
    Check("initial loss", initial_loss.check),
    Check("dead ReLUs", dead_relus.check),
    Check("gradients", gradients.check),
    Check("optimizer parameters", optimizer_parameters.check),
    Check("trained reference", trained_reference.check, needs_graph=True),
    Check("optimizer rebuilt", optimizer_rebuilt.check),
    Check("optimizer step", optimizer_step.check, compares=True, needs_graph=True),
    Check("gradient reset", gradient_reset.check, compares=True),
    Check("loop gradients", loop_gradients.check),
    Check("training mode", loop_modes.check),
    Check("rates", loop_rates.check),
    Check("lost updates", lost_updates.check),
    Check("averaged buffers", averaged_buffers.check),
    Check("averaged weights", self_average.check),
    Check("gradient flow", gradient_flow.check, needs_graph=True),
    Check("loss values", loss_values.check),
    Check("overfit", overfit.check, trains=True),
    Check("loss progress", loss_progress.check, trains=True),
)
"""In the order in which findings are reported: faults of the data before those of the model and the training."""
