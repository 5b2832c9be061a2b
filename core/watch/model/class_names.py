"""The names of the classes among which a model chooses, as models of transformers have them in their config."""

from collections.abc import Mapping

from torch import nn

from tui_lab.core.watch.model.model_calls import unwrapped


def class_names(model: nn.Module | None, n_classes: int) -> tuple[str, ...]:
    """Return a name for each class, as `model.config.id2label` has them; empty if they are not known."""
    config = None if model is None else getattr(unwrapped(model), "config", None)
    names = getattr(config, "id2label", None)
    if not isinstance(names, Mapping) or len(names) != n_classes:
        return ()
    by_number = {int(number): str(name) for number, name in names.items() if str(number).isdecimal()}
    return tuple(by_number[number] for number in sorted(by_number)) if len(by_number) == n_classes else ()
