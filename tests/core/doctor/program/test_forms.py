"""Programs of many forms: how the model is called, where ids, targets and the loss are, and that none is accused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab import Case, examine
from tui_lab.core.doctor.program.case_target import target_from_case
from tui_lab.core.doctor.program.tokens import PAIRS
from tui_lab.util.errors import ConfigError

V, B, T = 11, 6, 9


def rows(step: int, length: int = T) -> Tensor:
    """Rows that count upward, each by its own step: [B, length + 1]."""
    generator = torch.Generator().manual_seed(step)
    first, by = (torch.randint(1, high, (B, 1), generator=generator) for high in (V, 4))
    return (first + by * torch.arange(length + 1)) % V


def pair(step: int) -> tuple[Tensor, Tensor]:
    tokens = rows(step)
    return tokens[:, :-1], tokens[:, 1:]


def transposed(step: int) -> tuple[Tensor, Tensor]:
    x, y = pair(step)
    return x.t().contiguous(), y.t().contiguous()


class Mean(nn.Module):
    """A layer that sees each position and the mean of those up to it; called as a recurrent layer, but quicker."""

    def __init__(self, d: int, *, batch_first: bool = True) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * d, d)
        self.axis = 1 if batch_first else 0

    def forward(self, e: Tensor) -> tuple[Tensor, None]:
        counts = torch.arange(1, e.shape[self.axis] + 1).view((-1, 1) if self.axis else (-1, 1, 1))
        mean = e.cumsum(self.axis) / counts
        return torch.tanh(self.mix(torch.cat([e, mean], dim=-1))), None


class Decoder(nn.Module):
    """A language model; ids [B, T], or [T, B] if not `batch_first`."""

    def __init__(self, *, is_recurrent: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(V, 24)
        recurrent = nn.GRU(24, 24, batch_first=batch_first) if is_recurrent else None
        self.layers = recurrent or Mean(24, batch_first=batch_first)
        self.head = nn.Linear(24, V)

    def logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.tokens(x))[0])
        return logits

    def forward(self, x: Tensor) -> Any:
        return self.logits(x)


class LastOnly(Decoder):
    """As nanoGPT: all logits and the loss only with targets."""

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        logits = self.logits(x)
        if targets is None:
            return logits[:, [-1]], None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Named(Decoder):
    def forward(self, x: Tensor) -> Any:
        return {"hidden": torch.zeros(()), "logits": self.logits(x)}


class Flat(Decoder):
    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Any:
        assert hidden is not None
        return self.logits(x + 0 * hidden).reshape(-1, V), hidden


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.source, self.target = nn.Embedding(V, 24), nn.Embedding(V, 24)
        self.layers, self.head = Mean(24), nn.Linear(24, V)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        e = self.target(target) + self.source(source).mean(dim=1, keepdim=True)
        logits: Tensor = self.head(self.layers(e)[0])
        return logits


class Batch(NamedTuple):
    ids: Tensor
    labels: Tensor


def translation(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    source, target = rows(step + 100, 4), rows(step)
    return (source, target[:, :-1]), target[:, 1:]


def source_and_target(step: int) -> tuple[Tensor, Tensor]:
    return rows(step + 100, 4), rows(step)


def mapping(step: int) -> dict[str, Tensor]:
    x, y = pair(step)
    return {"x": x, "labels": y}


def ragged(step: int) -> tuple[Tensor, Tensor]:
    tokens = rows(step, 4 + step % 5)
    return tokens[:, :-1], tokens[:, 1:]


def images(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    y = torch.randint(0, 3, (B,), generator=generator)
    return torch.randn(B, 1, 8, 8, generator=generator) + y.view(-1, 1, 1, 1), y


def curve(step: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(B, 3, generator=torch.Generator().manual_seed(step))
    return x, x[:, :1].sin()


def sequences(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(7, B, 5, generator=generator), torch.randint(0, 3, (B,), generator=generator)


class Summary(nn.Module):
    """Classes of sequences [T, B, 5]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.head = nn.LSTM(5, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(x)[0][-1])
        return logits


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def regression() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))


def lazy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.LazyLinear(32), nn.Tanh(), nn.Linear(32, 1))


def row_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def flat_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y)


PROGRAMS: dict[str, Callable[[], Case]] = {
    "pair": lambda: Case(Decoder(is_recurrent=True), pair),
    "logits only with targets": lambda: Case(LastOnly(), pair),
    "logits only with targets, own loss": lambda: Case(LastOnly(), pair, lambda model, batch: model(*batch)[1]),
    "logits in a dict": lambda: Case(Named(), pair),
    "mapping": lambda: Case(Decoder(), mapping),
    "named tuple": lambda: Case(Decoder(), lambda step: Batch(*pair(step))),
    "rows": lambda: Case(Decoder(), rows),
    "rows cut by the user": lambda: Case(Decoder(), rows, row_loss, forward=lambda model, ids: model(ids[:, :-1])),
    "ragged": lambda: Case(Decoder(), ragged),
    "positions first": lambda: Case(Decoder(is_recurrent=True, batch_first=False), transposed),
    "flat logits and targets": lambda: Case(
        Flat(batch_first=False),
        lambda step: (transposed(step)[0], transposed(step)[1].flatten()),
        flat_loss,
        forward=lambda model, batch: model(batch[0], torch.zeros_like(batch[0])),
    ),
    "encoder and decoder": lambda: Case(Translator(), translation),
    "source and target": lambda: Case(Translator(), source_and_target),
    "classes of images": lambda: Case(convolution(), images),
    "classes of images, own loss": lambda: Case(convolution(), images, nn.CrossEntropyLoss()),
    "classes of sequences": lambda: Case(Summary(), sequences),
    "regression": lambda: Case(regression(), curve),
    "lazy": lambda: Case(lazy(), curve),
}
VARIANTS = {
    "logits only with targets",
    "logits only with targets, own loss",
    "logits in a dict",
    "mapping",
    "named tuple",
    "rows",
    "rows cut by the user",
    "source and target",
    "classes of images, own loss",
}
"""Forms of which the fast tests only ask what the doctor sees of them."""
TOKENS = {name for name in PROGRAMS if name.split(" ")[0] not in ("classes", "regression", "lazy")}


def trained(given: Case) -> Case:
    optimizer = torch.optim.Adam(given.model.parameters(), lr=3e-3)
    return Case(given.model, given.batches, given.loss, optimizer, forward=given.forward)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in VARIANTS else ()) for name in PROGRAMS]
)
def test_healthy_program_is_examined_without_findings(name: str) -> None:
    given = PROGRAMS[name]()
    report = examine(given if name == "lazy" else trained(given))
    assert report.findings == () and report.crashed == ()
    assert {"forward", "determinism", "gradients"} <= set(report.passed)
    assert name == "lazy" or "overfit" in report.passed


@pytest.mark.parametrize("name", sorted(TOKENS))
def test_view_has_ids_targets_and_logits_of_the_same_shape(name: str) -> None:
    target = target_from_case(PROGRAMS[name]())
    tokens = target.tokens
    assert tokens is not None and tokens.y is not None and (name != "pair" or tokens is PAIRS)
    batch = target.batch(0)
    x, y, logits = tokens.x(batch), tokens.y(batch), target.logits_of(batch)
    assert x.shape == y.shape == logits.shape[:2] and logits.shape[2] == V
    assert torch.equal(x[:, 1:], y[:, :-1]) and len(x) == B
    assert torch.equal(target.logits_of(tokens.with_x(batch, x.clone())), logits)
    assert not torch.equal(target.logits_of(tokens.with_x(batch, (x + 1) % V)), logits)
    assert target.logits_of(tokens.with_x(batch, x[:2, :3])).shape == (2, 3, V)
    assert float(target.loss(batch).detach()) > 0


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - TOKENS))
def test_program_without_token_positions_has_no_view(name: str) -> None:
    target = target_from_case(PROGRAMS[name]())
    assert target.tokens is None and float(target.loss(target.batch(0)).detach()) > 0


def test_wrapped_optimizer_is_an_error_that_names_the_inner_one() -> None:
    class Scheduled:
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner = inner

    model = Decoder()
    wrapped: Any = Scheduled(torch.optim.Adam(model.parameters()))
    with pytest.raises(ConfigError) as raised:
        target_from_case(Case(model, pair, optimizer=wrapped))
    [problem] = raised.value.problems
    assert problem.key == "Case.optimizer" and "optimizer.inner" in problem.message and "update=" in problem.message


@pytest.mark.parametrize("n_vocab", [2, pytest.param(250_000, marks=pytest.mark.slow)])
def test_vocabularies_of_any_size_are_healthy(n_vocab: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(n_vocab, 4), nn.Linear(4, n_vocab))
    nn.init.normal_(model[0].weight, 0.0, 0.1)  # type: ignore[arg-type]

    def batch(step: int) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(0, n_vocab, (3, 7), generator=torch.Generator().manual_seed(step))
        return tokens[:, :-1], tokens[:, 1:]

    report = examine(Case(model, batch, causal=True))
    assert report.crashed == () and {finding.code for finding in report.findings} <= {"no_context"}


def test_rows_of_one_token_are_examined() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(V, 8), nn.Linear(8, V))
    report = examine(Case(model, lambda step: (rows(step)[:, :1], rows(step)[:, 1:2])))
    assert report.findings == () and report.crashed == ()
