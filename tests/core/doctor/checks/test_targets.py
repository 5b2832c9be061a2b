"""Targets, padding and row ends: what is trained, wherever it is shifted or ignored."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import (
    ROWS,
    T,
    V,
    WithLoss,
    copied,
    cross_entropy,
    in_parts,
    labeled_target,
    padded,
    pairs_case,
    repeated,
    results,
    shifting_cross_entropy,
    text,
    there_and_back,
)
from tui_lab.core.doctor.checks.data import row_ends, targets
from tui_lab.core.doctor.measures.trained_targets import label_shift

COPIED = [("finding", "copied_targets")]
TWICE = [("finding", "double_shift")]


def test_model_that_shifts_its_labels_is_healthy_on_labels_that_equal_the_inputs() -> None:
    target = labeled_target(WithLoss(shifting_cross_entropy), copied)
    assert results(targets.check, target) == [] and label_shift(target) == 1


def test_labels_shifted_in_the_loader_and_in_the_model_are_shifted_twice() -> None:
    assert results(targets.check, labeled_target(WithLoss(shifting_cross_entropy), text)) == TWICE


def test_labels_that_nobody_shifts_are_copied() -> None:
    assert results(targets.check, labeled_target(WithLoss(cross_entropy), copied)) == COPIED
    assert results(targets.check, labeled_target(WithLoss(cross_entropy), text)) == []


@pytest.mark.parametrize(("batches", "expected"), [(copied, []), (text, TWICE)])
def test_shift_is_seen_in_an_update_without_a_stated_loss(batches: Any, expected: list[tuple[str, str]]) -> None:
    update = in_parts(lambda model, x, y: shifting_cross_entropy(model(x), y))
    assert results(targets.check, pairs_case(batches=batches, update=update)) == expected


@pytest.mark.parametrize("period", [1, 2, 3, 4, 6, 8])
def test_repeated_motifs_are_healthy(period: int) -> None:
    batch = repeated(period)
    assert results(targets.check, pairs_case(batches=batch, loss=cross_entropy)) == []

    def same(step: int) -> tuple[Tensor, Tensor]:
        x, _ = batch(step)
        return x, x.clone()

    assert results(targets.check, labeled_target(WithLoss(shifting_cross_entropy), same)) == []


@pytest.mark.parametrize("period", [2, 3, 4, 6])
def test_copied_motifs_are_found(period: int) -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, _ = repeated(period)(step)
        return x, x.clone()

    assert results(targets.check, pairs_case(batches=batch, loss=cross_entropy)) == COPIED


def test_rows_there_and_back_do_not_wrap_around_but_rolled_ones_do() -> None:
    def rolled(step: int) -> tuple[Tensor, Tensor]:
        x, _ = text(step)
        return x, x.roll(-1, dims=1)

    assert results(targets.check, pairs_case(batches=there_and_back, loss=cross_entropy)) == []
    assert results(targets.check, pairs_case(batches=rolled, loss=cross_entropy)) == [("finding", "shifted_targets")]


def test_reconstruction_by_a_model_that_sees_all_positions_is_only_a_hint() -> None:
    class Open(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(V, 16)
            self.head = nn.Linear(16, V)

        def forward(self, x: Tensor) -> Tensor:
            e = self.tokens(x)
            logits: Tensor = self.head(e + e.mean(dim=1, keepdim=True))
            return logits

    found = results(targets.check, pairs_case(Open(), batches=copied, loss=cross_entropy))
    assert found == [("hint", "copied_targets")]


class OwnUnseen(nn.Module):
    """Its logits at a position see earlier tokens only, since it shifts its inputs itself; it may see none."""

    def __init__(self, *, sees_earlier: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(V, 16)
        self.head = nn.Linear(16, V)
        self.factor = float(sees_earlier)

    def forward(self, x: Tensor) -> Tensor:
        earlier = F.pad(self.tokens(x), (0, 0, 1, 0))[:, :-1].cumsum(dim=1) * self.factor
        logits: Tensor = self.head(torch.tanh(earlier))
        return logits


@pytest.mark.parametrize(("sees_earlier", "expected"), [(True, [("not applicable", "")]), (False, COPIED)])
def test_target_that_equals_a_token_which_the_model_does_not_see_is_no_copy(
    *, sees_earlier: bool, expected: list[tuple[str, str]]
) -> None:
    model = OwnUnseen(sees_earlier=sees_earlier)
    assert results(targets.check, pairs_case(model, batches=copied, loss=cross_entropy)) == expected


def test_loss_of_the_last_position_alone_is_a_hint() -> None:
    target = pairs_case(loss=lambda logits, y: F.cross_entropy(logits[:, -1], y[:, -1]))
    assert results(targets.check, target) == [("hint", "ignored_targets")]


@pytest.mark.parametrize(("n_counted", "expected"), [(1, [("finding", "ignored_targets")]), (14, [])])
def test_rows_that_go_on_long_after_their_last_target(n_counted: int, expected: list[tuple[str, str]]) -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = text(step)
        y[:, n_counted:] = -100
        return x, y

    assert results(targets.check, pairs_case(batches=batch, loss=cross_entropy)) == expected


def test_one_answer_before_the_padding_of_each_row_is_healthy() -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = text(step)
        y[:, [*range(8), *range(9, T)]] = -100
        x[:, 10:] = 0
        return x, y

    assert results(targets.check, pairs_case(batches=batch, loss=cross_entropy)) == []


def test_targets_that_are_known_as_the_loss_got_them_are_not_shifted_again() -> None:
    def last_one(step: int) -> tuple[Tensor, Tensor]:
        x, labels = copied(step)
        labels[:, :-1] = -100
        return x, labels

    target = labeled_target(WithLoss(shifting_cross_entropy), last_one)
    assert target.tokens is not None
    known_shifted = replace(target.tokens, y=lambda batch: F.pad(batch["labels"][:, 1:], (0, 1), value=-100))
    assert results(targets.check, replace(target, tokens=known_shifted)) == []


@pytest.mark.parametrize("causal", [True, False])
def test_targets_of_other_rows_are_found_without_a_rule(causal: bool) -> None:
    def swapped(step: int) -> tuple[Tensor, Tensor]:
        x, y = text(step)
        return x, y.roll(1, dims=0)

    def drawn(step: int) -> tuple[Tensor, Tensor]:
        return text(step)[0], text(step + 100)[1]

    found = [("finding", "swapped_rows")]
    assert results(targets.check, pairs_case(batches=swapped, loss=cross_entropy, causal=causal)) == found
    assert results(targets.check, pairs_case(batches=drawn, loss=cross_entropy, causal=causal)) != found


def test_targets_that_are_earlier_inputs_are_suspected_where_a_task_may_ask_for_them() -> None:
    def echoed(step: int) -> tuple[Tensor, Tensor]:
        x, y = text(step)
        return y, x

    target = pairs_case(batches=echoed, loss=cross_entropy, causal=False)
    assert results(targets.check, target) == [("hint", "shifted_targets")]


def test_trained_padding_is_a_finding_if_rows_are_padded_to_the_longest() -> None:
    to_longest = pairs_case(batches=padded(0, trained=True), loss=cross_entropy)
    to_fixed = pairs_case(batches=padded(0, trained=True, length=T + 1), loss=cross_entropy)
    assert results(targets.check, to_longest) == [("finding", "padding_trained")]
    assert results(targets.check, to_fixed) == [("hint", "padding_trained")]
    assert results(targets.check, pairs_case(batches=padded(0), loss=cross_entropy)) == []


def test_end_that_is_also_the_padding_is_never_a_target() -> None:
    found = [("finding", "end_never_target")]
    assert results(row_ends.check, pairs_case(batches=padded(2), loss=cross_entropy)) == found
    assert results(row_ends.check, pairs_case(batches=padded(0), loss=cross_entropy)) == []


def test_end_is_only_suspected_to_be_missing_if_nothing_shows_one() -> None:
    found = [("hint", "end_never_target")]
    assert results(row_ends.check, pairs_case(batches=padded(2, length=T + 1), loss=cross_entropy)) == found
    assert results(row_ends.check, pairs_case(batches=padded(0, end=None), loss=cross_entropy)) == found


def test_rows_that_are_cut_off_need_no_end() -> None:
    assert results(row_ends.check, pairs_case(batches=padded(0, length=10), loss=cross_entropy)) == []
    found = [("hint", "end_never_target")]
    assert results(row_ends.check, pairs_case(batches=padded(0, end=None, length=10), loss=cross_entropy)) == found


def test_windows_of_a_text_have_no_row_ends() -> None:
    assert results(row_ends.check, pairs_case(loss=cross_entropy)) == [("not applicable", "")]


def test_mask_that_counts_the_end_proves_that_it_is_one() -> None:
    def batch(step: int) -> dict[str, Tensor]:
        x, y = padded(2, length=T + 1)(step)
        n_visible = (x != 2).sum(dim=1, keepdim=True) + 1
        return {"input_ids": x, "labels": y, "attention_mask": (torch.arange(T) < n_visible).long()}

    target = labeled_target(WithLoss(cross_entropy))
    assert results(row_ends.check, replace(target, batch=batch)) == [("finding", "end_never_target")]


def test_targets_as_the_loss_got_them_are_compared_with_the_labels_in_the_batch() -> None:
    """A script's targets are known as its loss used them: shifted already, and ignored at the end."""

    def as_used(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, labels = batch
        used = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)
        return {"input_ids": x, "labels": used, "kwargs": labels}

    target = labeled_target(WithLoss(cross_entropy))
    twice = replace(target, batch=lambda step: as_used(text(step)))
    once = replace(target, batch=lambda step: as_used(copied(step)))
    assert results(targets.check, twice) == TWICE
    assert results(targets.check, once) == [] and results(row_ends.check, once) == [("not applicable", "")]


def test_marked_end_that_is_never_a_target_is_found_where_all_rows_end_with_one_word() -> None:
    def batch(step: int, padding: int = 2) -> dict[str, Tensor]:
        x, y = padded(padding, end=5, length=T + 1)(step)
        return {"input_ids": x, "labels": y, "mask": (torch.arange(T) < (x != padding).sum(1, keepdim=True) + 1).long()}

    target = replace(labeled_target(WithLoss(cross_entropy)), batch=batch)
    assert results(row_ends.check, target) == [("finding", "end_never_target")]
    unmarked = replace(target, batch=lambda step: {k: v for k, v in batch(step).items() if k != "mask"})
    assert results(row_ends.check, unmarked) == []


def test_config_that_names_another_end_is_no_proof_where_all_rows_end_with_one_token() -> None:
    model = WithLoss(cross_entropy)
    model.config = SimpleNamespace(eos_token_id=0)  # type: ignore[assignment]
    assert results(row_ends.check, labeled_target(model, padded(0, end=2))) == []
    assert results(row_ends.check, labeled_target(model, padded(0, end=None, length=T + 1))) == [
        ("finding", "end_never_target")
    ]


def answered(step: int, *, trains: str, varies: bool = True) -> tuple[Tensor, Tensor]:
    """Return prompts with answers of several lengths, or one; the ids of one of the parts are targets."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randint(3, V, (ROWS, T), generator=generator)
    n_prompt = 7
    n_answer = torch.randint(3, 8, (ROWS, 1), generator=generator) if varies else torch.full((ROWS, 1), 4)
    position = torch.arange(T)
    is_answer = (position >= n_prompt) & (position < n_prompt + n_answer)
    x = x.masked_fill(position >= n_prompt + n_answer, 0)
    labels = x.where(is_answer if trains == "answer" else position < n_prompt, -100)
    return x, F.pad(labels[:, 1:], (0, 1), value=-100)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"trains": "answer"}, []),
        ({"trains": "prompt"}, [("finding", "ignored_targets")]),
        ({"trains": "prompt", "varies": False}, []),  # As the last positions of a model that predicts steps ahead.
    ],
)
def test_answers_that_are_ignored_while_their_prompts_are_trained(
    options: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    target = pairs_case(batches=partial(answered, **options), loss=cross_entropy)
    assert results(targets.check, target) == expected
    if expected:
        assert results(row_ends.check, target) == [("not judged", "")]


@pytest.mark.parametrize("n_trained", [3, 7])
def test_reversed_mask_is_named_however_many_targets_it_leaves(n_trained: int) -> None:
    def batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = answered(step, trains="prompt")
        return x[:, 7 - n_trained :], y[:, 7 - n_trained :]

    (finding,) = targets.check(pairs_case(batches=batch, loss=cross_entropy))
    assert "reversed" in finding.title


def conversations(step: int, *, trains: str) -> tuple[Tensor, Tensor]:
    """Return rows of a template of three ids and one to three turns, each a question and an answer that end with 2.

    trains: the "questions", the "answers" or "all" ids.
    """
    generator = torch.Generator().manual_seed(step)
    rows: list[list[int]] = []
    targets: list[list[int]] = []
    for _ in range(ROWS):
        row, row_targets = [3, 4, 5], [-100, -100, -100]
        for _ in range(int(torch.randint(1, 4, (1,), generator=generator))):
            for part in ("questions", "answers"):
                n = int(torch.randint(2, 5, (1,), generator=generator))
                ids = [*torch.randint(6, V, (n,), generator=generator).tolist(), 2]
                row += ids
                row_targets += ids if trains in (part, "all") else [-100] * len(ids)
        rows.append(row)
        targets.append(row_targets)
    longest = max(map(len, rows))
    x = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    y = torch.tensor([row + [-100] * (longest - len(row)) for row in targets])
    return x, F.pad(y[:, 1:], (0, 1), value=-100)


@pytest.mark.parametrize(
    ("trains", "expected"), [("questions", [("finding", "ignored_targets")]), ("answers", []), ("all", [])]
)
def test_reversed_mask_of_several_turns_is_found(trains: str, expected: list[tuple[str, str]]) -> None:
    target = pairs_case(batches=partial(conversations, trains=trains), loss=cross_entropy)
    assert results(targets.check, target) == expected


@pytest.mark.parametrize(("paddings", "kind"), [({0}, "finding"), ({1}, "hint"), (set(), "hint")])
def test_padding_that_a_tokenizer_names_is_a_finding(paddings: set[int], kind: str) -> None:
    target = pairs_case(batches=padded(0, trained=True, length=T + 1), loss=cross_entropy)
    known = replace(target, paddings=frozenset(paddings))
    assert results(targets.check, known) == [(kind, "padding_trained")]


def test_trained_padding_of_a_decoder_whose_rows_start_with_the_padding() -> None:
    def started(step: int, *, trained: bool) -> tuple[Tensor, Tensor]:
        x, y = padded(0, trained=trained)(step)
        rows = torch.cat([torch.zeros_like(x[:, :1]), x], dim=1)
        return rows, torch.cat([x[:, :1], y], dim=1)

    faulty = pairs_case(batches=partial(started, trained=True), loss=cross_entropy)
    healthy = pairs_case(batches=partial(started, trained=False), loss=cross_entropy)
    assert results(targets.check, faulty) == [("finding", "padding_trained")]
    assert results(targets.check, healthy) == []


@pytest.mark.parametrize(("end", "kind"), [(2, "finding"), (0, "hint")])
def test_config_that_names_the_padding_proves_it_unless_it_is_the_end(end: int, kind: str) -> None:
    model = WithLoss(cross_entropy)
    model.config = SimpleNamespace(pad_token_id=0, eos_token_id=end)  # type: ignore[assignment]
    target = labeled_target(model, padded(0, trained=True, length=T + 1))
    assert results(targets.check, target) == [(kind, "padding_trained")]


class ShiftsLabelsRight(WithLoss):
    """As an encoder-decoder of transformers: it makes the decoder's ids from the labels."""

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        return F.pad(labels[:, :-1], (1, 0)).clamp(min=0)

    def forward(self, input_ids: Tensor, labels: Tensor, decoder_input_ids: Tensor | None = None) -> dict[str, Tensor]:
        made = self.prepare_decoder_input_ids_from_labels(labels)
        return super().forward(made if decoder_input_ids is None else decoder_input_ids, labels)


@pytest.mark.parametrize(("trained", "expected"), [(True, [("finding", "padding_trained")]), (False, [])])
def test_padding_of_labels_is_seen_where_the_model_makes_its_decoders_ids(
    *, trained: bool, expected: list[tuple[str, str]]
) -> None:
    def batch(step: int) -> dict[str, Tensor]:
        _, labels = padded(0, trained=trained)(step)
        return {"input_ids": torch.randint(3, V, labels.shape), "labels": labels}

    target = pairs_case(ShiftsLabelsRight(cross_entropy), batches=batch)
    assert results(targets.check, target) == expected


def test_labels_of_ids_are_not_judged_where_the_model_returns_no_logits() -> None:
    target = replace(labeled_target(WithLoss(cross_entropy), copied), tokens=None)
    assert results(targets.check, target) == results(row_ends.check, target) == [("not judged", "")]
    scores = replace(target, batch=lambda step: {"input_ids": copied(step)[0], "labels": torch.ones(ROWS)})
    assert results(targets.check, scores) == [("not applicable", "")]


def masked_rows(step: int, *, copies: bool, mask: bool = True) -> tuple[Tensor, Tensor]:
    """Return rows for a masked language model, or with some wrong ids. copies: whether all ids are targets."""
    generator = torch.Generator().manual_seed(step)
    y = torch.randint(3, V, (ROWS, T), generator=generator)
    hidden = torch.rand(y.shape, generator=generator) < 0.25
    x = torch.where(hidden, 2 if mask else torch.randint(3, V, y.shape, generator=generator), y)
    return x, y if copies else y.masked_fill(~hidden, -100)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"copies": True}, [("hint", "copied_targets")]),
        ({"copies": False}, [("not applicable", "")]),
        ({"copies": True, "mask": False}, [("not applicable", "")]),  # A model that corrects its input.
    ],
)
def test_masked_language_model_that_is_trained_on_copies(
    options: dict[str, bool], expected: list[tuple[str, str]]
) -> None:
    target = pairs_case(batches=partial(masked_rows, **options), loss=cross_entropy, causal=False)
    assert results(targets.check, target) == expected


def test_drawing_begins_where_the_targets_do() -> None:
    def copied_ends(step: int) -> tuple[Tensor, Tensor]:
        x = torch.randint(V, (ROWS, 40), generator=torch.Generator().manual_seed(step))
        return x, x.masked_fill(torch.arange(40) < 30, -100)

    (finding,) = targets.check(pairs_case(batches=copied_ends, loss=cross_entropy))
    x, y = (line.split()[1:] for line in finding.drawing)
    assert x[1:] == y[1:] and "–" not in y[1:]
