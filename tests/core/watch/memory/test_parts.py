"""What needs no script: parts of a model, phases, the end of a step, and advice on measured facts."""

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from tui_lab.core.training.optim_without_dynamo import SGD
from tui_lab.core.watch.memory.advice import advice
from tui_lab.core.watch.memory.batch_estimate import batch_estimate
from tui_lab.core.watch.memory.gaps import gaps
from tui_lab.core.watch.memory.holding_variables import Variable, place_of_addition
from tui_lab.core.watch.memory.largest_parts import MAX_PARTS, largest_parts
from tui_lab.core.watch.memory.modules_at_work import Path as ModulePath
from tui_lab.core.watch.memory.modules_at_work import Place, general_name
from tui_lab.core.watch.memory.moments import Change, Mark, Marks, largest_moments
from tui_lab.core.watch.memory.most_at_once import most_by_phase
from tui_lab.core.watch.memory.script_memory import ScriptMemory, larger_step
from tui_lab.core.watch.memory.step_memory import Growth, Kept, KeptPart, LossInput, Moment, OtherPart, StepMemory
from tui_lab.core.watch.steps.step_cycle import StepCycle

MIB = 2**20


def place(*path: tuple[str, str], layer: int = 0) -> Place:
    return Place(path, tuple(10 * layer + depth for depth in range(len(path))), "", is_compiled=False)


MODEL: ModulePath = (("", "GPT"),)
BLOCK: ModulePath = (*MODEL, ("h.*", "Block"))


def test_layers_of_one_kind_are_one_part() -> None:
    held = [(place(*BLOCK, (f"h.*.{name}", name), layer=i), MIB) for i in range(12) for name in ("attn", "mlp")]
    assert largest_parts(held) == (KeptPart("h.*.attn", "attn", 12, 12 * MIB), KeptPart("h.*.mlp", "mlp", 12, 12 * MIB))


def test_parts_together_are_everything_and_few() -> None:
    held = [(place(*BLOCK, (f"h.*.{i}", f"Linear{i}")), 1000 + i) for i in range(30)]
    held += [(place(*MODEL), 50_000), (Place((), (), "train.py:3", is_compiled=False), 1)]
    parts = largest_parts(held)
    assert sum(part.bytes for part in parts) == sum(size for _, size in held)
    assert len(parts) <= MAX_PARTS + 1
    assert parts[0] == KeptPart("", "GPT", 1, 50_000)


@pytest.mark.parametrize(
    ("name", "general"),
    [("transformer.h.11.mlp", "transformer.h.*.mlp"), ("0", "*"), ("module._orig_mod.h.3", "h.*"), ("fc2", "fc2")],
)
def test_general_name(name: str, general: str) -> None:
    assert general_name(name) == general


def test_most_of_each_phase_begins_with_what_is_held() -> None:
    changes = [(1, 5), (3, 10), (4, -8), (6, 2)]
    most = most_by_phase(100, changes, [(2, "forward"), (4, "backward")])
    assert most == {"between": 105, "forward": 115, "backward": 115}


def test_gradients_are_told_from_what_lay_at_their_address_before() -> None:
    changes = [
        Change(1, 100, 10),  # An activation.
        Change(2, 200, -30),  # The gradient of the step before.
        Change(3, 100, -10),
        Change(4, 100, 40),  # A gradient.
        Change(7, 300, 5),  # In the optimizer's step.
        Change(9, 400, 6),  # The next batch.
    ]
    marks = Marks({200: 30}, [Mark(0, frozenset({200})), Mark(5, frozenset({100}))], [(6, 8)])
    assert largest_moments(30, changes, marks) == (Moment(51, 45), Moment(40, 30))


def test_step_with_two_optimizers_ends_at_the_last_one() -> None:
    first, second = (SGD(nn.Linear(2, 2).parameters(), lr=0.1) for _ in range(2))
    cycle = StepCycle()
    ended = []
    for optimizer in (first, second) * 3:
        ended.append((cycle.before(optimizer), cycle.after(optimizer)))
    # Only when the first one steps again is it known that a step has ended.
    assert ended == [(False, False)] * 2 + [(True, False), (False, True), (False, False), (False, True)]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("total += loss", "total"),
        ("total = total + loss", "total"),
        ("self.losses.append(loss)", "self.losses"),
        ('history["loss"].append(loss)', "history"),
        ("outputs[step] = loss", "outputs"),
    ],
)
def test_place_of_addition(line: str, name: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"total = 0\nfor step in range(3):\n    loss = f()\n    {line}\n", "utf-8")
    variable = Variable(name, str(script), "<module>", 1)
    assert place_of_addition(variable) == f"{script}:4"
    assert place_of_addition(replace(variable, name="other")) == ""


KEPT = Kept(
    activations=40 * MIB,
    loss=MIB,
    parts=(),
    weight_copies=0,
    attention=0,
    float32=40 * MIB,
    per_row=MIB,
    compiled=0,
    unseen=0,
)
STEP = StepMemory(
    n=4,
    device="cuda",
    weights=10 * MIB,
    frozen=0,
    buffers=0,
    gradients=10 * MIB,
    early_gradients=0,
    early_fate="",
    optimizer=20 * MIB,
    optimizers=("AdamW",),
    kept=KEPT,
    logits=LossInput((512, 50_304), "float32", MIB),
    batch=0,
    rows=8,
    micro_batches=1,
    others=(),
    held=30 * MIB,
    most={"between": 30 * MIB, "forward": 70 * MIB, "backward": 80 * MIB, "update": 60 * MIB},
    reserved=90 * MIB,
)


def memory(step: StepMemory = STEP, growth: Growth | None = None) -> ScriptMemory:
    return ScriptMemory(step, 6, MIB, MIB, 1000 * MIB, growth, "", ())


@pytest.mark.parametrize(
    ("measured", "codes"),
    [
        (memory(), ["activations"]),
        (memory(replace(STEP, kept=replace(KEPT, attention=20 * MIB))), ["activations", "attention_matrices"]),
        (memory(replace(STEP, optimizer=60 * MIB)), ["optimizer_state"]),
        (memory(replace(STEP, kept=replace(KEPT, loss=50 * MIB))), ["logits"]),
        (memory(replace(STEP, early_gradients=10 * MIB, early_fate="zeroed")), ["early_gradients", "activations"]),
        (memory(replace(STEP, early_gradients=10 * MIB, early_fate="freed")), ["activations"]),
        (memory(replace(STEP, others=(OtherPart("GPT", 50 * MIB),))), ["other_tensors"]),
        (memory(growth=Growth(0, 100, "total", "train.py:9")), ["graph_kept", "activations"]),
        (memory(growth=Growth(MIB, 0, "", "")), ["memory_grows", "activations"]),
        (memory(replace(STEP, most=None)), []),
        (memory(replace(STEP, kept=None, optimizer=None, others=None)), []),
    ],
)
def test_advice_is_on_what_was_measured(measured: ScriptMemory, codes: list[str]) -> None:
    assert [each.code for each in advice(measured)] == codes


def test_rows_add_what_is_kept_of_them() -> None:
    estimate = batch_estimate(memory())
    assert estimate is not None
    assert (estimate.rows, estimate.per_row) == (8, MIB)
    assert estimate.twice == 30 * MIB + 2 * 50 * MIB  # Weights and optimizer state stay.
    assert estimate.fits == 8 * (900 - 30) // 50
    in_update = replace(STEP, most={"between": 0, "forward": 70 * MIB, "backward": 80 * MIB, "update": 200 * MIB})
    twice = batch_estimate(memory(in_update))
    assert twice is not None and twice.twice == 200 * MIB


def test_gradients_do_not_grow_with_the_rows() -> None:
    # Weights dominate: 10 + 20 MiB of weights and optimizer state, 40 MiB of gradients and what the optimizer needs.
    step = replace(STEP, moments=(Moment(72 * MIB, 40 * MIB), Moment(50 * MIB, 10 * MIB)))
    estimate = batch_estimate(memory(step))
    assert estimate is not None
    assert estimate.twice == (30 + 40 + 2 * 2) * MIB
    assert estimate.fits == 8 * (900 - 40) // 10  # With many rows, the moment with most of what grows is the largest.
    assert estimate.fits > 8


def test_many_times_the_rows_are_no_estimate() -> None:
    step = replace(STEP, moments=(Moment(70 * MIB + 1000, 40 * MIB),))
    estimate = batch_estimate(memory(step))
    assert estimate is not None and estimate.fits is None


@pytest.mark.parametrize(
    "step", [replace(STEP, rows=None), replace(STEP, kept=replace(KEPT, per_row=None)), replace(STEP, most=None)]
)
def test_no_estimate_where_a_part_is_not_known(step: StepMemory) -> None:
    assert batch_estimate(memory(step)) is None


@pytest.mark.parametrize(
    ("measured", "codes"),
    [
        (memory(), []),
        (memory(replace(STEP, rows=None)), ["rows"]),
        (memory(replace(STEP, kept=replace(KEPT, per_row=None))), ["square_of_rows"]),
        (memory(replace(STEP, kept=None)), ["no_backward_pass"]),
        (memory(replace(STEP, kept=replace(KEPT, compiled=1, unseen=1))), ["compiled", "unseen_tensors"]),
        (memory(replace(STEP, most=None)), ["peak"]),
        (replace(memory(replace(STEP, most=None)), n_steps=2), ["too_few_steps"]),
        (replace(memory(replace(STEP, most=None)), n_steps=2, killed=-9), ["peak", "killed"]),
        (replace(memory(replace(STEP, most=None)), n_steps=2, out_of_memory="full"), ["out_of_memory"]),
        (replace(memory(), larger=replace(STEP, n=2, most=None)), ["larger_step"]),
    ],
)
def test_gaps_say_what_is_missing_and_why(measured: ScriptMemory, codes: list[str]) -> None:
    assert [gap.code for gap in gaps(measured)] == codes


def test_larger_step_that_was_not_measured_is_found() -> None:
    early = [replace(STEP, n=n, most=None, kept=replace(KEPT, activations=n * 40 * MIB)) for n in (1, 3, 2)]
    assert larger_step([*early, STEP], STEP) is early[1]
    assert larger_step([early[0], STEP], STEP) is None
    measured = replace(early[1], most=STEP.most)
    assert larger_step([early[2], measured, STEP], STEP) is None
    assert larger_step(early, early[0]) is None
