"""Seeds of torch's global generators."""

import pytest
import torch

from tui_lab.core.kernels import device


def test_seed_of_all_devices_repeats_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_accelerator in (True, False):
        monkeypatch.setattr(device, "_has_accelerator", lambda answer=has_accelerator: answer)
        draws = []
        for seed in (1, 2, 1):
            device.seed_all_devices(seed)
            draws.append(torch.rand(4).tolist())
        assert draws[0] == draws[2] != draws[1]


def test_seed_keeps_no_stack_trace_on_a_machine_without_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_has_accelerator", lambda: False)
    queued = len(torch.cuda._queued_calls)
    device.seed_all_devices(1)
    assert len(torch.cuda._queued_calls) == queued
