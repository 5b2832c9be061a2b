"""Prompts that are trained although nothing predicts them, and rows that only resemble them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.core.doctor.checks.programs import Causal, cross_entropy, pairs_case, results
from tui_lab.core.doctor.checks.data import prompts
from tui_lab.core.doctor.loop.recorder import LoopRecorder

ROWS = 32
MARKER, N_VOCAB = 22, 23
SUSPECTED = [("hint", "prompt_trained")]
Rows = Callable[[torch.Generator], Tensor]


def answered(generator: torch.Generator) -> Tensor:
    """Noise with one of four topics somewhere in it, a marker, and the topic's answer."""
    noise = torch.randint(0, 12, (ROWS, 10), generator=generator)
    topic = torch.randint(12, 16, (ROWS, 1), generator=generator)
    noise.scatter_(1, torch.randint(0, 10, (ROWS, 1), generator=generator), topic)
    return torch.cat([noise, torch.full((ROWS, 1), MARKER), topic + 4], dim=1)


def sums(generator: torch.Generator) -> Tensor:
    """Two numbers of two digits, and the digits of their sum from the last to the first."""
    a, b = torch.randint(0, 100, (2, ROWS), generator=generator)
    c = a + b
    return torch.stack([a // 10, a % 10, b // 10, b % 10, c % 10, c // 10 % 10, c // 100], dim=1)


def motif_three_times(generator: torch.Generator) -> Tensor:
    return torch.randint(0, N_VOCAB, (ROWS, 8), generator=generator).repeat(1, 3)


def fibonacci(generator: torch.Generator) -> Tensor:
    columns = list(torch.randint(0, N_VOCAB, (2, ROWS), generator=generator))
    while len(columns) < 12:
        columns.append((columns[-1] + columns[-2]) % N_VOCAB)
    return torch.stack(columns, dim=1)


def chain(generator: torch.Generator) -> Tensor:
    """Each token is one of two that its predecessor allows, as in text."""
    columns = [torch.randint(0, N_VOCAB, (ROWS,), generator=generator)]
    while len(columns) < 16:
        columns.append((2 * columns[-1] + torch.randint(0, 2, (ROWS,), generator=generator)) % N_VOCAB)
    return torch.stack(columns, dim=1)


def noise(generator: torch.Generator) -> Tensor:
    return torch.randint(0, N_VOCAB, (ROWS, 16), generator=generator)


def sentences(generator: torch.Generator) -> Tensor:
    """Words that are drawn one by one, with the same words between them."""
    words = torch.randint(0, 12, (ROWS, 6), generator=generator)
    return torch.cat([words[:, :3], torch.full((ROWS, 2), MARKER), words[:, 3:]], dim=1)


def batches(rows: Rows, ignored: int = 0) -> Callable[[int], tuple[Tensor, Tensor]]:
    """ignored: the number of targets at the start of each row that are."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        ids = rows(torch.Generator().manual_seed(step))
        x, y = ids[:, :-1].contiguous(), ids[:, 1:].clone()
        y[:, :ignored] = -100
        return x, y

    return batch


def outcome(batch: Any, loss: Any = cross_entropy) -> list[tuple[str, str]]:
    return results(prompts.check, pairs_case(Causal(N_VOCAB), batches=batch, loss=loss))


@pytest.mark.parametrize(("rows", "n_prompt"), [(answered, 11), (sums, 4)])
def test_random_prompt_is_suspected_only_if_its_targets_count(rows: Rows, n_prompt: int) -> None:
    assert outcome(batches(rows)) == SUSPECTED
    assert outcome(batches(rows, ignored=n_prompt - 1)) in ([], [("not applicable", "")])


def test_targets_that_may_follow_from_the_input_of_an_encoder_are_no_prompt() -> None:
    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = Causal(N_VOCAB)

        def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
            logits: Tensor = self.decoder(tgt) + self.decoder(src).mean(dim=1, keepdim=True)
            return logits

    def batch(step: int, *, given: bool) -> dict[str, Tensor]:
        x, y = batches(answered)(step)
        return {"src": x.flip(1) if given else torch.zeros_like(x), "tgt": x, "labels": y}

    def found(*, given: bool) -> list[tuple[str, str]]:
        return results(
            prompts.check, pairs_case(Conditional(), batches=partial(batch, given=given), loss=cross_entropy)
        )

    assert found(given=False) == SUSPECTED
    assert found(given=True) == [("not applicable", "")]


def test_prompt_that_the_loss_gives_no_weight_is_healthy() -> None:
    def masked(logits: Tensor, y: Tensor) -> Tensor:
        weights = (torch.arange(y.shape[1]) >= 10).float().expand(y.shape)
        losses = F.cross_entropy(logits.transpose(1, 2), y, reduction="none")
        return (losses * weights).sum() / weights.sum()

    assert outcome(batches(answered), masked) == []


@pytest.mark.parametrize("rows", [motif_three_times, fibonacci, chain, noise, sentences])
def test_rows_of_a_plain_language_model_hold_no_prompt(rows: Rows) -> None:
    assert outcome(batches(rows)) == []


def test_few_different_rows_are_not_judged() -> None:
    assert outcome(lambda step: batches(sums)(step % 2)) == [("not judged", "")]


@pytest.mark.parametrize(("use", "expected"), [("none", SUSPECTED), ("loss", []), ("targets", []), ("padding", [])])
def test_mask_of_the_batch_that_the_loss_does_not_use(use: str, expected: list[tuple[str, str]]) -> None:
    model = Causal(N_VOCAB)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = chain(torch.Generator().manual_seed(0))
    mask = (torch.arange(16) >= 9).expand(ids.shape).long()
    if use == "padding":
        ids[:, :9] = 0
    with LoopRecorder() as recorder:
        for x, answer in DataLoader(TensorDataset(ids, mask), 16):
            y = x[:, 1:].clone()
            if use == "targets":
                y[answer[:, 1:] == 0] = -100
            losses = F.cross_entropy(model(x[:, :-1]).transpose(1, 2), y, reduction="none")
            weights = answer[:, 1:] if use == "loss" else torch.ones_like(y)
            optimizer.zero_grad()
            torch.autograd.backward((losses * weights).sum() / weights.sum())
            optimizer.step()
    target = replace(pairs_case(model, batches=batches(chain), loss=cross_entropy), record=recorder.record())
    assert [found for found in results(prompts.check, target) if found in SUSPECTED] == expected


OPENING = 20
"""The id that opens an answer."""


def conversations(ignores: str, *, has_opening: bool = True) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Return batches of rows with a prompt and an answer of different lengths, padded with 0.

    ignores: which targets are ignored: those of the "prompt", of "some" rows' prompts, of the prompt's first "part",
    or "none".
    """

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        rows: list[Tensor] = []
        targets: list[Tensor] = []
        for number in range(ROWS):
            n_prompt, n_answer = torch.randint(6, 10, (2,), generator=generator).tolist()
            words = torch.randint(1, OPENING, (n_prompt + n_answer,), generator=generator)
            opening = torch.tensor([OPENING] if has_opening else [])
            rows.append(torch.cat([words[:n_prompt], opening, words[n_prompt:]]).long())
            n = {"prompt": n_prompt + 1, "some": (n_prompt + 1) * (number % 3 > 0), "part": 4, "none": 0}[ignores]
            targets.append(rows[-1].where(torch.arange(len(rows[-1])) >= n, -100))
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        y = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-100)
        return x, F.pad(y[:, 1:], (0, 1), value=-100)

    return batch


@pytest.mark.parametrize(
    ("ignores", "is_known", "expected"),
    [
        ("none", True, SUSPECTED),
        ("part", True, SUSPECTED),
        ("some", True, [("finding", "prompt_trained")]),
        ("some", False, [("finding", "prompt_trained")]),
        ("prompt", True, []),
    ],
)
def test_prompts_before_what_opens_an_answer(ignores: str, expected: list[tuple[str, str]], *, is_known: bool) -> None:
    target = pairs_case(batches=conversations(ignores), loss=cross_entropy)
    openings = frozenset({(OPENING,)} if is_known else ())
    found = results(prompts.check, replace(target, answer_openings=openings))
    assert [each for each in found if each[0] in ("finding", "hint")] == expected


@pytest.mark.parametrize("ignores", ["none", "some", "part"])
def test_rows_without_what_opens_an_answer_are_no_prompts(ignores: str) -> None:
    target = pairs_case(batches=conversations(ignores, has_opening=False), loss=cross_entropy)
    found = results(prompts.check, replace(target, answer_openings=frozenset({(OPENING,)})))
    assert not {each[0] for each in found} & {"finding", "hint"}
