"""Which models a script has loaded with `from_pretrained` of transformers. Needs no torch."""

import sys
import weakref
from typing import Any

from tui_lab.core.watch.process.script_process import when_imported

MODULE = "transformers.modeling_utils"


class PretrainedModels:
    """Notes each model that `PreTrainedModel.from_pretrained` returns, without keeping it alive."""

    def __init__(self) -> None:
        self._models: list[weakref.ref[Any]] = []

    def watch(self) -> None:
        """Begin, now or when the library is imported."""
        when_imported(MODULE, self._replace)

    def has_loaded(self, model: Any) -> bool:
        """Return whether the model, or a part of it, was loaded."""
        parameter_ids = {id(p) for p in model.parameters()}
        loaded = [each for reference in self._models if (each := reference()) is not None]
        return any(id(p) in parameter_ids for each in loaded for p in each.parameters())

    def _replace(self) -> None:
        kind = sys.modules[MODULE].PreTrainedModel
        original = kind.from_pretrained.__func__

        def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
            result = original(cls, *args, **kwargs)
            model = result[0] if isinstance(result, tuple) else result  # With output_loading_info=True.
            self._models.append(weakref.ref(model))
            return result

        kind.from_pretrained = classmethod(from_pretrained)
