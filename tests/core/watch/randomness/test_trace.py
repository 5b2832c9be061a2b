"""The first difference of two traces, and fingerprints of tensors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tui_lab.core.watch.randomness.fingerprints import fingerprint, inputs_in
from tui_lab.core.watch.randomness.trace import PATH, Difference, Entry, first_difference

ENTRIES = st.builds(
    Entry,
    st.integers(1, 3),
    st.sampled_from(["weights", "batch", "loss", "gradient", "update"]),
    st.sampled_from("ab"),
    st.sampled_from("xy"),
)


@given(st.lists(ENTRIES, max_size=6), st.lists(ENTRIES, max_size=6))
def test_everything_before_the_first_difference_is_the_same(one: list[Entry], other: list[Entry]) -> None:
    difference = first_difference(one, other)
    assert (difference is None) == (one == other)
    if difference is not None:
        n = difference.position
        assert one[:n] == other[:n] and one[n : n + 1] != other[n : n + 1]
        assert set(difference.before) == {entry.kind for entry in one[:n]}


def test_a_difference_names_the_step_the_thing_and_both_values() -> None:
    same = Entry(1, "weights", "w", "0")
    one = [same, Entry(2, "loss", "loss", "1.5")]
    assert first_difference(one, [same, Entry(2, "loss", "loss", "1.25")]) == Difference(
        2, "loss", "loss", ("1.5", "1.25"), ("weights",), 1
    )
    other_path = first_difference(one, [same, Entry(2, "batch", "x", "1.5")])
    ended = first_difference([same], one)
    assert other_path is not None and other_path.kind == PATH
    assert ended is not None and ended.kind == PATH and ended.values == ("", "1.5")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(1.5),
        torch.empty(0, 3),
        torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).T,
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j, 3j]).conj(),
        torch.eye(3).to_sparse(),
        torch.nn.Parameter(torch.ones(2)),
        torch.empty(2, device="meta"),
    ],
)
def test_equal_tensors_have_equal_fingerprints(tensor: Tensor) -> None:
    assert fingerprint(tensor) == fingerprint(tensor.detach().clone())
    assert fingerprint(tensor) != fingerprint(tensor.detach().clone().unsqueeze(0))


def test_one_bit_changes_a_fingerprint() -> None:
    number = torch.tensor([1.0, 2.0])
    assert fingerprint(number) != fingerprint(torch.nextafter(number, torch.tensor(9.0)))
    assert fingerprint(torch.tensor([0.0])) != fingerprint(torch.tensor([-0.0]))
    assert fingerprint(torch.zeros(2)) != fingerprint(torch.zeros(2, dtype=torch.int32))


def test_inputs_are_the_tensors_that_depend_on_no_weights() -> None:
    logits = torch.ones(2, requires_grad=True) * 2
    batch = {"ids": torch.ones(2), "more": [torch.zeros(1).numpy(), {"mask": torch.ones(1)}], "logits": logits, "n": 3}
    assert [name for name, _ in inputs_in(((logits,), batch))] == ["ids", "more 1", "mask"]
