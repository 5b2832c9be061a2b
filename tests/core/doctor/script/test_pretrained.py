"""A model that from_pretrained returned is not taken for an untrained one."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from tui_lab.core.doctor.script.pretrained import MODULE, PretrainedModels


class Model(nn.Linear):
    """Loads as the models of transformers do."""

    @classmethod
    def from_pretrained(cls, path: str, *, output_loading_info: bool = False) -> Any:
        model = cls(2, 2)
        return (model, {}) if output_loading_info else model


@pytest.mark.parametrize("with_info", [False, True])
def test_loaded_model_is_known_also_as_a_part(monkeypatch: pytest.MonkeyPatch, *, with_info: bool) -> None:
    kind: Any = type("PreTrainedModel", (Model,), {"from_pretrained": vars(Model)["from_pretrained"]})
    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace(PreTrainedModel=kind))
    pretrained = PretrainedModels()
    pretrained.watch()
    subclass: Any = type("Llama", (kind,), {})
    loaded = subclass.from_pretrained("path", output_loading_info=with_info)
    model = loaded[0] if with_info else loaded
    assert isinstance(model, subclass)
    assert pretrained.has_loaded(nn.Sequential(nn.Linear(2, 2), model)) and not pretrained.has_loaded(nn.Linear(2, 2))
