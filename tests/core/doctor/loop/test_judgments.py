"""What the checks say about small loops: each mistake is named with its line, and its healthy twin is not."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.core.doctor.loop.judged import codes, judged, loss_of, sgd, target_of
from tests.core.watch.loops import LOOPS, V, batch, start
from tui_lab.core.doctor.checks.training import loop_gradients, optimizer_step
from tui_lab.core.doctor.findings import NotJudged

Loop = Callable[[], object]
STEPS = 12


def train(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    *,
    before: Callable[[int], object] = lambda step: None,
    between: Callable[[int], object] = lambda step: None,
    after: Callable[[int], object] = lambda step: None,
    clears: bool = True,
    steps: int = STEPS,
) -> None:
    """The usual loop, with calls before it, between backward and step, and after the step."""
    for step in range(steps):
        before(step)
        if clears:
            optimizer.zero_grad()
        loss_of(model, step).backward()  # type: ignore[no-untyped-call]
        between(step)
        optimizer.step()
        after(step)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "compiled" else ()) for name in LOOPS]
)
def test_loops_of_every_kind_are_healthy(name: str) -> None:
    expected = ["accumulation_not_divided"] if name == "accumulating_undivided" else []
    if name == "lbfgs":  # It trains in evaluation mode on purpose.
        expected = ["eval_in_training"]
    assert codes(judged(LOOPS[name])) == expected


# The order of the calls


def never_cleared() -> None:
    model, optimizer = sgd()
    train(optimizer, model, clears=False)


def cleared_on_another_optimizer() -> None:
    model = start()
    body = torch.optim.SGD([*model.embedding.parameters(), *model.hidden.parameters()], lr=0.1)
    head = torch.optim.SGD(model.head.parameters(), lr=0.1)
    train(body, model, between=lambda step: head.step())


def cleared_between() -> None:
    model, optimizer = sgd()
    train(optimizer, model, between=lambda step: optimizer.zero_grad())


def no_step() -> None:
    model, optimizer = sgd()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step).backward()  # type: ignore[no-untyped-call]


def no_backward() -> None:
    model, optimizer = sgd()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step)
        optimizer.step()


def ascending() -> None:
    model, optimizer = sgd()
    for step in range(STEPS):
        optimizer.zero_grad()
        (-loss_of(model, step)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def clipped_after_the_step() -> None:
    model, optimizer = sgd()
    train(optimizer, model, after=lambda step: nn.utils.clip_grad_norm_(model.parameters(), 0.1))


def clipped_to_nothing() -> None:
    model, optimizer = sgd()
    train(optimizer, model, between=lambda step: nn.utils.clip_grad_norm_(model.parameters(), 1e-8))


def micro_batches(
    *,
    divides: bool = True,
    clears_each: bool = False,
    adam: bool = False,
    clip: float = 0.0,
    divisor: int = 4,
    smoothing: float = 0.0,
) -> Loop:
    def loop() -> None:
        model = start()
        kind = torch.optim.AdamW if adam else torch.optim.SGD
        optimizer = kind(model.parameters(), lr=0.01)
        for step in range(4):
            for part in range(4):
                if clears_each:
                    optimizer.zero_grad()
                x, y = batch(10 * step + part, 4)
                loss = F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten(), label_smoothing=smoothing)
                (loss / divisor if divides else loss).backward()  # type: ignore[no-untyped-call]
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()

    return loop


def left_over_micro_batches() -> None:
    """Each epoch of 11 leaves 3 over, which its successor's first update of 4 adds to its own."""
    model, optimizer = sgd(0.01)
    for epoch in range(4):
        for part in range(11):
            loss_of(model, 20 * epoch + part).backward()  # type: ignore[no-untyped-call]
            if part % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()


def scaled(*, unscales: bool = True, clips: bool = True, steps_itself: bool = False) -> Loop:
    def loop() -> None:
        model, optimizer = sgd(0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()  # type: ignore[no-untyped-call]
            if unscales:
                scaler.unscale_(optimizer)
            if clips:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if steps_itself:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()

    return loop


@pytest.mark.parametrize(
    ("loop", "code", "operation"),
    [
        (never_cleared, "no_zero_grad", "backward"),
        (cleared_on_another_optimizer, "no_zero_grad", "backward"),
        (cleared_between, "cleared_before_step", "zero_grad"),
        (no_step, "no_step", "backward"),
        (no_backward, "no_backward", "step"),
        (ascending, "gradient_ascent", "backward"),
        (clipped_after_the_step, "clip_without_effect", "clip_grad_norm_"),
        (clipped_to_nothing, "gradient_clipped", "clip_grad_norm_"),
        (micro_batches(clears_each=True), "cleared_between_backwards", "zero_grad"),
        (micro_batches(divides=False), "accumulation_not_divided", "backward"),
        (micro_batches(divides=False, adam=True, clip=0.1), "accumulation_not_divided", "backward"),
        (micro_batches(divides=False, smoothing=0.2), "accumulation_not_divided", "backward"),
        (scaled(unscales=False), "clip_before_unscale", "clip_grad_norm_"),
        (scaled(unscales=False, clips=False, steps_itself=True), "loss_scale_kept", "step"),
    ],
)
def test_mistake_in_the_order_is_named_with_its_line(loop: Loop, code: str, operation: str) -> None:
    findings = judged(loop)
    assert codes(findings) == [code]
    [finding] = [finding for finding in findings if finding.code == code]
    file, _, line = finding.location.partition(":")
    assert Path(file).name == "test_judgments.py"
    with open(__file__, encoding="utf-8") as lines:
        assert operation in lines.read().splitlines()[int(line) - 1]


def clipped_in_between() -> None:
    model, optimizer = sgd()
    train(optimizer, model, between=lambda step: nn.utils.clip_grad_norm_(model.parameters(), 0.1))


def summed_and_divided_by_all_targets() -> None:
    model, optimizer = sgd()
    for step in range(4):
        optimizer.zero_grad()
        for part in range(4):
            x, y = batch(10 * step + part)
            loss = F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten(), reduction="sum")
            (loss / (4 * y.numel())).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def gradients_divided_by_hand() -> None:
    model, optimizer = sgd()
    for step in range(4):
        optimizer.zero_grad()
        for part in range(4):
            loss_of(model, 10 * step + part).backward()  # type: ignore[no-untyped-call]
        for p in model.parameters():
            if p.grad is not None:
                p.grad /= 4
        optimizer.step()


def two_losses_of_one_model() -> None:
    """As a discriminator has for real and generated examples."""
    model, optimizer = sgd()
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()  # type: ignore[no-untyped-call]
        loss_of(model, 100 + step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def adversarial() -> None:
    """Inner steps on the same rows, each with cleared gradients; the last one counts."""
    model, optimizer = sgd()
    for step in range(4):
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def taking_turns() -> None:
    """The gradients that the second loss adds to the first optimizer's parameters are cleared before they count."""
    model = start()
    first = torch.optim.SGD([*model.embedding.parameters(), *model.hidden.parameters()], lr=0.1)
    second = torch.optim.SGD(model.head.parameters(), lr=0.1)
    for step in range(4):
        for optimizer in (first, second):
            optimizer.zero_grad()
            loss_of(model, step).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def clearing_without_zero_grad() -> None:
    model, optimizer = sgd()

    def clear(step: int) -> None:
        for p in model.parameters():
            p.grad = None

    train(optimizer, model, clears=False, after=clear)


def gradients_without_backward() -> None:
    model, optimizer = sgd()
    for step in range(4):
        parameters = list(model.parameters())
        for p, gradient in zip(parameters, torch.autograd.grad(loss_of(model, step), parameters), strict=True):
            p.grad = gradient
        optimizer.step()


def with_a_closure() -> None:
    """As Lightning does for every optimizer."""
    model, optimizer = sgd()
    for step in range(4):

        def closure(step: int = step) -> Tensor:
            loss = loss_of(model, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "loop",
    [
        clipped_in_between,
        summed_and_divided_by_all_targets,
        gradients_divided_by_hand,
        two_losses_of_one_model,
        adversarial,
        taking_turns,
        clearing_without_zero_grad,
        gradients_without_backward,
        with_a_closure,
        micro_batches(),
        micro_batches(smoothing=0.2),
        micro_batches(divides=False, adam=True),
        scaled(),
        scaled(unscales=False, clips=False),
    ],
)
def test_healthy_order_has_no_finding(loop: Loop) -> None:
    assert codes(judged(loop)) == []


def test_number_of_undivided_losses_is_the_usual_one() -> None:
    [finding] = [f for f in judged(left_over_micro_batches) if f.code == "accumulation_not_divided"]
    assert "losses of 4 micro-batches" in finding.title and "(loss / 4)" in finding.fix


def test_undivided_losses_are_a_hint_where_the_optimizer_divides_by_the_size_of_the_gradient() -> None:
    findings = judged(micro_batches(divides=False, adam=True))
    assert [(finding.code, finding.kind) for finding in findings] == [("accumulation_not_divided", "hint")]


@pytest.mark.parametrize(("divisor", "factor"), [(2, "2 times"), (16, "0.25 times")])
def test_losses_divided_by_another_number_than_theirs_are_a_hint(divisor: int, factor: str) -> None:
    [finding] = judged(micro_batches(divisor=divisor))
    assert (finding.code, finding.kind) == ("accumulation_not_divided", "hint")
    assert factor in finding.why


@pytest.mark.parametrize("divisor", [4, 8])
def test_losses_divided_by_their_number_or_a_multiple_are_no_finding(divisor: int) -> None:
    assert judged(micro_batches(divisor=divisor)) == []


def test_gradients_of_one_group_that_are_never_cleared_are_named() -> None:
    [finding] = [f for f in judged(cleared_on_another_optimizer) if f.code == "no_zero_grad"]
    assert "head.weight" in finding.evidence and "embedding" not in finding.evidence


def cleared_once() -> None:
    model, optimizer = sgd()
    optimizer.zero_grad()
    train(optimizer, model, clears=False)


def test_gradients_that_are_cleared_before_the_loop_only_need_no_other_optimizer() -> None:
    [finding] = [f for f in judged(cleared_once) if f.code == "no_zero_grad"]
    assert "optimizer" not in finding.fix and "once" in finding.fix


def test_step_after_a_single_backward_call_is_not_judged() -> None:
    def loop() -> None:
        loss_of(start(), 0).backward()  # type: ignore[no-untyped-call]

    with pytest.raises(NotJudged):
        list(optimizer_step.check(target_of(loop)))


def test_losses_that_are_all_nan_are_no_fault_of_a_loss_scale() -> None:
    def loop() -> None:
        model, optimizer = sgd()
        train(optimizer, model, before=lambda step: next(model.parameters()).data.fill_(torch.nan))

    assert "loss_scale_kept" not in codes(judged(loop))


def test_gradient_that_is_not_finite_names_the_last_parameter_before_the_loss() -> None:
    def loop() -> None:
        model, optimizer = sgd()
        for step in range(3):
            optimizer.zero_grad()
            x, y = batch(step)
            logits = model(x)[0]
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten()) + (logits * 0).pow(2).sum().sqrt()
            loss.backward()
            optimizer.step()

    [finding] = [f for f in judged(loop) if f.code == "gradient_not_finite"]
    assert "head.bias" in finding.title


# Modes


def evaluate(model: nn.Module, step: int) -> float:
    with torch.no_grad():
        return sum(float(loss_of(model, 1000 + 10 * step + number)) for number in range(2))


def with_evaluations(*, evaluates: bool, restores: bool, every_step: bool = False, in_eval: bool = False) -> Loop:
    def loop() -> None:
        model, optimizer = sgd()
        model.train(not in_eval)

        def after(step: int) -> None:
            if step in (3, 7) or every_step:
                if evaluates:
                    model.eval()
                evaluate(model, step)
                if restores:
                    model.train()

        train(optimizer, model, after=after)

    return loop


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        (with_evaluations(evaluates=True, restores=True), []),
        (with_evaluations(evaluates=True, restores=False), ["eval_in_training"]),
        (with_evaluations(evaluates=False, restores=False), ["train_mode_in_evaluation"]),
        (with_evaluations(evaluates=True, restores=False, in_eval=True), ["eval_in_training"]),
        # Calls without gradients in each step belong to the training, as pseudo-labels do.
        (with_evaluations(evaluates=False, restores=False, every_step=True), []),
    ],
)
def test_modes_of_training_and_evaluation(loop: Loop, expected: list[str]) -> None:
    assert codes(judged(loop)) == expected


def test_training_in_evaluation_mode_until_the_next_epoch_is_found() -> None:
    def loop() -> None:
        model, optimizer = sgd()
        for _ in range(2):
            model.train()
            train(optimizer, model, after=lambda step: evaluate(model.eval(), step) if step == 3 else None)

    [finding] = judged(loop)
    assert finding.code == "eval_in_training" and "update 4 of 24" in finding.evidence


@pytest.mark.parametrize(("mode", "expected"), [(True, []), (False, ["eval_in_training"])])
def test_mode_of_a_loop_that_changes_its_weights_by_hand(mode: bool, expected: list[str]) -> None:
    def loop() -> None:
        model = start().train(mode)
        for step in range(STEPS):
            model.zero_grad()
            loss_of(model, step).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.zeros_like(p) if p.grad is None else p.grad, alpha=-0.1)

    assert codes(judged(loop)) == expected


def test_batch_normalization_is_named_next_to_dropout() -> None:
    def loop() -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1)).eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()

    [finding] = [f for f in judged(loop) if f.code == "eval_in_training"]
    assert "dropout of 0.3" in finding.title and "batch normalization" in finding.title


def test_mode_makes_no_difference_without_dropout() -> None:
    def loop() -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(V, 8), nn.Linear(8, V)).eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            x, y = batch(step)
            F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    assert judged(loop) == []


# Rates


def scheduled(factors: Callable[[int], float], *, per_update: int = 1, first: bool = False) -> Loop:
    def loop() -> None:
        model, optimizer = sgd(0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)

        def schedule(step: int) -> None:
            for _ in range(per_update):
                scheduler.step()

        if first:
            train(optimizer, model, between=schedule)
        else:
            train(optimizer, model, after=schedule, steps=24)

    return loop


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        (scheduled(lambda n: 1 - n / 24), []),
        (scheduled(lambda n: min(1.0, n / 6)), []),
        (scheduled(lambda n: 0.0), ["lr_zero"]),
        (scheduled(lambda n: 1 - n / 24, per_update=2), ["lr_schedule"]),
        (scheduled(lambda n: max(0.0, 1 - n / 24), per_update=4), ["lr_schedule"]),
        (scheduled(lambda n: 0.1 ** (n >= 2) * 0.1 ** (n >= 4)), ["lr_schedule"]),
        (scheduled(lambda n: 0.1 ** (n >= 12) * 0.1 ** (n >= 18)), []),
    ],
)
def test_course_of_the_learning_rate(loop: Loop, expected: list[str]) -> None:
    assert codes(judged(loop)) == expected


def test_rate_of_zero_for_the_first_ten_updates_is_found() -> None:
    def loop(n_zero: int) -> Loop:
        model, optimizer = sgd()

        def set_rate(step: int) -> None:
            optimizer.param_groups[0]["lr"] = 0.1 * (step >= n_zero)

        return lambda: train(optimizer, model, before=set_rate)

    assert codes(judged(loop(10))) == ["lr_zero"]
    assert judged(loop(2)) == []


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_scheduler_before_the_optimizer_is_found() -> None:
    assert codes(judged(scheduled(lambda n: 1.0, first=True))) == ["schedule_before_step"]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_scheduler_of_micro_batches_counts_too_fast() -> None:
    def loop() -> None:
        model, optimizer = sgd(0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1.0)
        for step in range(STEPS):
            optimizer.zero_grad()
            for part in range(3):
                (loss_of(model, 3 * step + part) / 3).backward()  # type: ignore[no-untyped-call]
                scheduler.step()
            optimizer.step()

    [finding] = judged(loop)
    assert finding.code == "schedule_before_step" and "3 times" in finding.title


def test_rates_far_from_the_usual_are_hints() -> None:
    def loop(lr: float) -> Loop:
        model, optimizer = sgd(lr)
        return lambda: train(optimizer, model)

    assert [(f.code, f.kind) for f in judged(loop(300.0))] == [("lr_too_high", "hint")]
    assert [(f.code, f.kind) for f in judged(loop(1e-6))] == [("lr_too_low", "hint")]
    assert judged(loop(0.1)) == []


def test_weight_decay_of_norms_is_a_hint() -> None:
    def loop(decay: float) -> Loop:
        model = start()
        model.hidden = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(0.1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=decay)
        return lambda: train(optimizer, model)

    assert [(f.code, f.kind) for f in judged(loop(0.1))] == [("decayed_norms", "hint")]
    assert judged(loop(0.01)) == []


# Parameters of the optimizer


def replaced_embedding(*, recreates: bool) -> Loop:
    def loop() -> None:
        model, optimizer = sgd()
        model.embedding = nn.Embedding(V + 3, 8)
        if recreates:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(optimizer, model)

    return loop


def test_embedding_that_was_replaced_after_the_optimizer_was_created_is_named() -> None:
    findings = judged(replaced_embedding(recreates=False))
    assert codes(findings) == ["stale_optimizer"]
    assert "embedding.weight" in findings[0].title and str([V, 8]) in findings[0].evidence
    assert codes(judged(replaced_embedding(recreates=True))) == []


@pytest.mark.parametrize(("untrained", "kind"), [(True, "finding"), (False, "hint")])
def test_part_of_a_trained_model_may_be_left_out(untrained: bool, kind: str) -> None:
    def loop() -> None:
        model = start()
        train(torch.optim.SGD(model.head.parameters(), lr=0.1), model)

    missing = [f for f in judged(loop, untrained=untrained) if f.code == "missing_from_optimizer"]
    assert [finding.kind for finding in missing] == [kind]


def low_rank_layers(*, optimizer_first: bool) -> Loop:
    """A frozen model with a trained layer of low rank in its head, as LoRA adds it."""

    def loop() -> None:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.requires_grad_(False)
        frozen = model.head
        model.add_module("head", nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False), frozen))
        if not optimizer_first:
            optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
        train(optimizer, model)

    return loop


def test_optimizer_that_holds_only_frozen_parameters_trains_nothing() -> None:
    findings = judged(low_rank_layers(optimizer_first=True), untrained=False)
    assert [(f.code, f.kind) for f in findings] == [("stale_optimizer", "finding")]
    assert judged(low_rank_layers(optimizer_first=False), untrained=False) == []


def test_weights_too_coarse_for_their_changes_never_move() -> None:
    def loop(dtype: torch.dtype) -> Iterator[str]:
        def run() -> None:
            torch.manual_seed(0)
            model = nn.Sequential(nn.Embedding(V, 8), nn.Linear(8, V)).to(dtype)
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(1.0)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
            for step in range(12):
                optimizer.zero_grad()
                x, y = batch(step)
                F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

        yield from codes(judged(run))

    assert list(loop(torch.bfloat16)) == ["weights_never_move"]
    assert list(loop(torch.float32)) == []


@pytest.mark.parametrize(("dtype", "expected"), [(torch.bfloat16, ["updates_lost"]), (torch.float32, [])])
def test_changes_that_half_precision_weights_round_away(dtype: torch.dtype, expected: list[str]) -> None:
    def loop() -> None:
        model = start().to(dtype)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
        train(optimizer, model)

    assert codes(judged(loop)) == expected


# Rows


def from_loader(*, restarts: bool, shuffle: bool = False, rows: int = 16, evaluates: bool = False) -> Loop:
    def loop() -> None:
        model, optimizer = sgd()
        x, y = batch(0, rows)
        loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=shuffle)
        validation = DataLoader(TensorDataset(*batch(1, rows)), batch_size=4)
        iterator: Iterator[list[Tensor]] = iter([])
        for step in range(12):
            if evaluates and step % 5 == 0:
                model.eval()
                with torch.no_grad():
                    for inputs, _ in validation:
                        model(inputs)
                model.train()
            pair = next(iter(loader)) if restarts else next(iterator, None)
            if pair is None:
                iterator = iter(loader)
                pair = next(iterator)
            optimizer.zero_grad()
            F.cross_entropy(model(pair[0])[0].flatten(0, 1), pair[1].flatten()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return loop


def test_loader_that_begins_again_in_each_update_is_found() -> None:
    findings = judged(from_loader(restarts=True))
    assert codes(findings) == ["constant_batch"] and "test_judgments.py:" in findings[0].location
    assert judged(from_loader(restarts=False)) == []
    assert judged(from_loader(restarts=True, shuffle=True)) == []


def test_evaluations_between_updates_do_not_hide_a_loader_that_begins_again() -> None:
    assert codes(judged(from_loader(restarts=True, evaluates=True))) == ["constant_batch"]
    assert codes(judged(from_loader(restarts=False, evaluates=True))) == []


def test_all_data_in_each_update_are_a_hint_only() -> None:
    assert [(f.code, f.kind) for f in judged(from_loader(restarts=True, rows=4))] == [("constant_batch", "hint")]


# Several optimizers


def in_turns(generator: nn.Module, critic: nn.Module, *, detach: bool) -> None:
    optimizers = [torch.optim.Adam(module.parameters()) for module in (generator, critic)]
    for _ in range(STEPS):
        made = generator(torch.randn(8, 4))
        for optimizer, output in zip(optimizers, (made.detach() if detach else made, made.detach()), strict=True):
            optimizer.zero_grad()
            F.softplus(critic(output)).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@pytest.mark.parametrize(("detach", "expected"), [(True, ["missing_gradient"]), (False, [])])
def test_optimizer_whose_weights_never_get_a_gradient_is_named(detach: bool, expected: list[str]) -> None:
    models = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 1)])
    target = replace(target_of(lambda: in_turns(*models, detach=detach)), model=models)
    findings = list(loop_gradients.check(target))
    assert [finding.code for finding in findings] == expected
    assert all(finding.location for finding in findings)


# Warm-ups


@pytest.mark.parametrize(("warmup", "kinds"), [(200, ["finding"]), (STEPS + 4, ["hint"]), (STEPS // 2, [])])
def test_warm_up_that_is_longer_than_the_training_is_named(warmup: int, kinds: list[str]) -> None:
    def loop() -> None:
        model, optimizer = sgd()
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
        train(optimizer, model, after=lambda step: scheduler.step())

    assert [finding.kind for finding in judged(loop) if finding.code == "lr_schedule"] == kinds
