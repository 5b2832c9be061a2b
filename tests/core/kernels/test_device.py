"""Seeds of torch's global generators; arrays on a device."""

from unittest.mock import MagicMock, call

import numpy as np
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


def test_array_on_the_cpu_is_contiguous_and_not_copied_if_it_was() -> None:
    array = np.arange(12).reshape(3, 4)
    assert device.to_device(array, torch.device("cpu")).data_ptr() == array.ctypes.data
    part = device.to_device(array[:, 1:], torch.device("cpu"))
    assert part.is_contiguous() and torch.equal(part, torch.from_numpy(array[:, 1:]))


def test_copy_from_a_gpu_is_queued_and_only_reading_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = MagicMock()
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "current_stream", gpu.stream)
    tensor = gpu.tensor
    tensor.is_cuda = True
    copy = device.HostCopy(tensor)
    assert tensor.detach().to.call_args == call("cpu", non_blocking=True)
    event = gpu.event.return_value
    assert event.record.call_args == call(gpu.stream(tensor.device)) and not event.synchronize.called
    event.synchronize.side_effect = lambda: tensor.detach().to().cpu.configure_mock(return_value="arrived")
    assert copy.read() == "arrived" and event.synchronize.call_count == 1


def test_copy_of_a_tensor_on_the_cpu_is_that_tensor() -> None:
    tensor = torch.ones(3)
    assert device.HostCopy(tensor).read().data_ptr() == tensor.data_ptr()


def test_array_goes_to_a_gpu_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        assert tensor.is_contiguous()
        calls.append("pinned")
        return tensor

    def to(tensor: torch.Tensor, target: torch.device, *, non_blocking: bool = False) -> torch.Tensor:
        calls.append(f"{target.type}, {non_blocking}")
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    array = np.arange(12).reshape(3, 4)[:, 1:]
    assert torch.equal(device.to_device(array, torch.device("cuda")), torch.from_numpy(array))
    assert calls == ["pinned", "cuda, True"]
