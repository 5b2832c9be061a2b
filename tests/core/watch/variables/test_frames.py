"""The variables of running functions are read without a change to what the functions see."""

import inspect
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import tui_lab
from tui_lab.core.watch.variables.frames import is_function, locals_of


def here() -> FrameType:
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back


def seen(frame: FrameType) -> dict[str, Any]:
    return {name: value for name, value in locals_of(frame).items() if name != "frame"}


def test_variables_of_a_function_are_read() -> None:
    def function(size: int) -> dict[str, Any]:
        doubled = 2 * size
        return seen(here()) if doubled else {}

    assert function(3) == {"size": 3, "doubled": 6}


def test_settings_that_are_what_locals_returned_stay_as_they_are() -> None:
    """As in ignite's examples: `config = locals()`, whose entries the script changes."""

    def train(size: int = 3, rate: float = 0.1) -> dict[str, Any]:
        config = locals()
        config["rate"] *= 2
        del config["size"]
        assert is_function(here())
        locals_of(here())
        return config

    assert train() == {"rate": 0.2}


def test_locals_that_are_only_read_hide_no_variables() -> None:
    def function(size: int) -> list[Any]:
        text = "{size}".format(**locals())
        copied = locals().copy()
        del copied
        return [text, seen(here())]

    assert function(3) == ["3", {"size": 3, "text": "3"}]


def test_watched_training_does_not_change_settings_from_locals(run: tui_lab.WatchedRun) -> None:
    def train(size: int = 4, n_steps: int = 3) -> dict[str, Any]:
        config = locals()
        config["name"] = "tiny"
        model = nn.Linear(size, size)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(n_steps):
            optimizer.zero_grad()
            F.mse_loss(model(torch.ones(2, size)), torch.zeros(2, size)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return config

    config = train()
    run.close()
    assert config == {"size": 4, "n_steps": 3, "name": "tiny"}
