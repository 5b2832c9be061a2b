"""Small programs for the tests of checks: models, batches and losses of several styles."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.program.case import Case
from tui_lab.core.doctor.program.case_target import target_from_case
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import PAIRS, TokenView, logits_in

V, T, ROWS = 23, 16, 8
Batch = Any
Loss = Callable[[Tensor, Tensor], Tensor]


class Causal(nn.Module):
    """A healthy causal model: a running mean of embeddings through a layer."""

    def __init__(self, n_vocab: int = V) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(n_vocab, 16)
        self.mix = nn.Linear(16, 32)
        self.head = nn.Linear(32, n_vocab)

    def forward(self, x: Tensor) -> Tensor:
        e = self.tokens(x)
        mean = e.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1)[:, None]
        logits: Tensor = self.head(torch.tanh(self.mix(e + mean)))
        return logits


class WithLoss(nn.Module):
    """Returns logits and the loss that `loss` computes from them, as nanoGPT and Hugging Face models do."""

    def __init__(self, loss: Loss, change: Callable[[Tensor], Tensor] = lambda logits: logits) -> None:
        super().__init__()
        self.inner = Causal()
        self.loss = loss
        self.change = change

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.change(self.inner(x))
        return {"logits": logits, "loss": self.loss(logits, labels)}


LABELED = TokenView(
    x=lambda batch: batch["input_ids"],
    y=lambda batch: batch["labels"],
    with_x=lambda batch, ids: {**batch, "input_ids": ids},
    logits=logits_in,
)
"""Dict batches as those of transformers."""


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def shifting_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1], y[:, 1:])


def text(step: int, n_vocab: int = V) -> tuple[Tensor, Tensor]:
    rows = torch.randint(n_vocab, (ROWS, T + 1), generator=torch.Generator().manual_seed(step))
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def copied(step: int) -> tuple[Tensor, Tensor]:
    x, _ = text(step)
    return x, x.clone()


def repeated(period: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Return batches whose rows repeat a random motif."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        motif = torch.randint(V, (ROWS, period), generator=torch.Generator().manual_seed(step))
        rows = motif.repeat(1, T)[:, : T + 1]
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    return batch


def there_and_back(step: int) -> tuple[Tensor, Tensor]:
    motif = torch.randint(V, (ROWS, 9), generator=torch.Generator().manual_seed(step))
    rows = torch.cat([motif, motif.flip(1)[:, 1:]], dim=1)
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def padded(
    padding: int, *, end: int | None = 2, length: int | None = None, trained: bool = False
) -> Callable[[int], Any]:
    """Return batches of rows of different lengths, padded to the longest; or padded and cut to `length` tokens."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        rows = []
        for _ in range(ROWS):
            n = int(torch.randint(4, 14, (1,), generator=generator))
            rows.append([*torch.randint(3, V, (n,), generator=generator).tolist(), *([] if end is None else [end])])
        longest = length or max(map(len, rows))
        ids = torch.tensor([(row + [padding] * (longest - len(row)))[:longest] for row in rows])
        x, y = ids[:, :-1].contiguous(), ids[:, 1:].clone()
        if not trained:
            y[y == padding] = -100
        return x, y

    return batch


def pairs_case(model: nn.Module | None = None, **fields: Any) -> Target:
    """Return the target of a Case with batches (x, y)."""
    model = model or Causal()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return target_from_case(Case(model, **{"batches": text, "optimizer": optimizer, **fields}))


def in_parts(loss: Callable[[nn.Module, Tensor, Tensor], Tensor], parts: int = 1) -> Callable[..., None]:
    """Return an update that adds up the gradients of `parts` micro-batches."""

    def update(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], x: Tensor, y: Tensor) -> None:
        model.train()
        optimizers[0].zero_grad()
        for micro_x, micro_y in zip(x.chunk(parts), y.chunk(parts), strict=True):
            loss(model, micro_x, micro_y).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()

    return update


def labeled_target(model: nn.Module, batch: Callable[[int], tuple[Tensor, Tensor]] = text) -> Target:
    """Return the target of a model that computes its loss itself from dict batches."""
    return any_target(
        model,
        lambda step: dict(zip(("input_ids", "labels"), batch(step), strict=True)),
        forward=lambda model, batch: model(batch["input_ids"], batch["labels"]),
        loss=lambda model, batch: model(batch["input_ids"], batch["labels"])["loss"],
        tokens=LABELED,
    )


def scores_target(model: nn.Module, batch: Callable[[int], Batch], loss: Loss) -> Target:
    """Return the target of a program without tokens: batches (x, y)."""
    return any_target(model, batch, forward=_first, loss=lambda model, b: loss(model(b[0]), b[1]), tokens=None)


def _first(model: nn.Module, batch: Batch) -> Any:
    return model(batch[0])


def any_target(
    model: nn.Module,
    batch: Callable[[int], Batch],
    *,
    forward: Callable[[nn.Module, Batch], Any],
    loss: Callable[[nn.Module, Batch], Tensor],
    tokens: TokenView | None = PAIRS,
) -> Target:
    def update(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], batch: Batch) -> None:
        model.train()
        optimizers[0].zero_grad()
        loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()

    return Target(
        model=model,
        optimizers=[torch.optim.AdamW(model.parameters(), lr=1e-3)],
        batch=batch,
        forward=forward,
        loss_function=loss,
        update=update,
        ignored=-100,
        tokens=tokens,
    )


def results(check: Callable[[Target], Any], target: Target) -> list[tuple[str, str]]:
    """Return the kind and code of what a check found; ("not judged", "") or ("not applicable", "") if it says so."""
    outcomes: list[tuple[str, str]] = []
    try:
        for finding in check(target):
            assert isinstance(finding, Finding)
            outcomes.append((finding.kind, finding.code))
    except NotJudged:
        outcomes.append(("not judged", ""))
    except NotApplicable:
        outcomes.append(("not applicable", ""))
    return outcomes
