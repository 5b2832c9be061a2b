"""Which loss of a script's evaluation is recorded as its validation loss, by how the script names its data."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import tui_lab
from tui_lab.core import events as ev
from tui_lab.core.watch.code.data_parts import part_in

N_IDS = 7
Evaluate = Callable[["Model"], float | None]
Items = Dataset[tuple[Tensor, ...]]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(N_IDS, 4), nn.Linear(4, N_IDS))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.layers(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten())


def rows(seed: int) -> Tensor:
    return torch.randint(N_IDS, (8, 5), generator=torch.Generator().manual_seed(seed))


PARTS = {"train": rows(0), "val": rows(1)}


def get_batch(part: str) -> tuple[Tensor, Tensor]:
    ids = PARTS[part][torch.randint(8, (4,))]
    return ids[:, :-1], ids[:, 1:]


def items(part: str) -> Items:
    return TensorDataset(PARTS[part][:, :-1], PARTS[part][:, 1:])


train_loader = DataLoader(items("train"), 4)
val_loader = DataLoader(items("val"), 4)
test_loader = DataLoader(items("train"), 4)


@torch.no_grad()
def loop_over_the_parts(model: Model) -> float:
    out = {}
    for split in ["train", "val"]:
        losses = torch.zeros(3)
        for k in range(3):
            x, y = get_batch(split)
            losses[k] = float(model(x, y)[1])
        out[split] = losses.mean().item()
    return out["val"]


@torch.no_grad()
def dict_comprehension_with_a_generator(model: Model) -> float:
    out = {s: sum(float(model(*get_batch(s))[1]) for _ in range(3)) / 3 for s in ("train", "val")}
    return out["val"]


@torch.no_grad()
def dict_comprehension_with_a_list(model: Model) -> float:
    out = {s: torch.tensor([float(model(*get_batch(s))[1]) for _ in range(3)]).mean().item() for s in ("train", "val")}
    return out["val"]


@torch.no_grad()
def helper(model: Model, which: str) -> float:
    return sum(float(model(*get_batch(which))[1]) for _ in range(3)) / 3


def function_with_the_part(model: Model) -> float:
    helper(model, "train")
    return helper(model, "val")


@torch.no_grad()
def batch_of_a_named_part(model: Model) -> float:
    model(*get_batch("train"))
    return float(model(*get_batch("val"))[1])


@torch.no_grad()
def loss_assigned_to_a_name(model: Model) -> float:
    x, y = get_batch("train")
    train_loss = float(model(x, y)[1])
    x, y = get_batch("val")
    val_loss = float(model(x, y)[1])
    assert train_loss
    return val_loss


@torch.no_grad()
def loss_appended_to_a_list(model: Model) -> float:
    lists: dict[str, list[float]] = {}
    train_losses = lists.setdefault("a", [])
    val_losses = lists.setdefault("b", [])
    x, y = get_batch("train")
    train_losses.append(float(model(x, y)[1]))
    x, y = get_batch("val")
    val_losses.append(float(model(x, y)[1]))
    return val_losses[0]


@torch.no_grad()
def losses_in_a_dict(model: Model) -> float:
    (x, y), (x2, y2) = get_batch("train"), get_batch("val")
    return {"train": float(model(x, y)[1]), "val": float(model(x2, y2)[1])}["val"]


def two_loaders(model: Model) -> float:
    model.eval()
    losses = []
    with torch.no_grad():
        for x, y in train_loader:
            model(x, y)
        for x, y in val_loader:
            losses.append(float(model(x, y)[1]))
    return sum(losses) / len(losses)


@torch.no_grad()
def over_loader(model: Model, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    losses = [float(model(x, y)[1]) for x, y in loader]
    return sum(losses) / len(losses)


def function_with_a_loader(model: Model) -> float:
    over_loader(model, train_loader)
    return over_loader(model, val_loader)


def loop_over_loaders(model: Model) -> float:
    return [over_loader(model, loader) for loader in (train_loader, val_loader)][1]


@torch.no_grad()
def vali(model: Model, val_loader: DataLoader[tuple[Tensor, ...]]) -> float:
    losses = [float(model(x, y)[1]) for x, y in val_loader]
    return sum(losses) / len(losses)


def function_with_a_name_for_any_part(model: Model) -> float:
    vali(model, train_loader)
    vali_loss = vali(model, val_loader)
    vali(model, test_loader)
    return vali_loss


@torch.no_grad()
def one_loader(model: Model) -> float:
    loader = val_loader
    losses = [float(model(x, y)[1]) for x, y in loader]
    return sum(losses) / len(losses)


@torch.no_grad()
def batch_that_was_drawn_before(model: Model) -> float:
    x, y = get_batch("train")
    model(x, y)
    x, y = get_batch("val")
    output = model(x, y)
    return float(output[1])


@torch.no_grad()
def two_places_without_names(model: Model) -> None:
    first, second = PARTS.values()
    model(first, first)
    model(second, second)


def result_of_several_parts(model: Model) -> None:
    val_loss = two_places_without_names(model)
    assert val_loss is None


def two_loaders_without_names(model: Model) -> None:
    for loader in [DataLoader(items("train"), 4), DataLoader(items("val"), 4)]:
        over_loader(model, loader)


def only_training_rows(model: Model) -> None:
    over_loader(model, train_loader)


KNOWN: list[Evaluate] = [
    loop_over_the_parts,
    dict_comprehension_with_a_generator,
    dict_comprehension_with_a_list,
    function_with_the_part,
    batch_of_a_named_part,
    batch_that_was_drawn_before,
    loss_assigned_to_a_name,
    loss_appended_to_a_list,
    losses_in_a_dict,
    two_loaders,
    function_with_a_loader,
    loop_over_loaders,
    function_with_a_name_for_any_part,
    one_loader,
]
UNKNOWN: list[Evaluate] = [
    two_places_without_names,
    result_of_several_parts,
    two_loaders_without_names,
    only_training_rows,
]


def trained(folder: Path, evaluate: Evaluate) -> tuple[list[float], list[ev.Event]]:
    """Train with two evaluations, the first before any step; return their validation losses, and the events."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    val_losses = []
    with tui_lab.watch(out=folder):
        for step, (x, y) in enumerate(train_loader):
            if step < 2 and (val_loss := evaluate(model)) is not None:
                val_losses.append(val_loss)
            optimizer.zero_grad()
            torch.autograd.backward(model(x, y)[1])
            optimizer.step()
        evaluate(model)
    lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
    return val_losses, [ev.parse_event(line) for line in lines]


@pytest.mark.parametrize("evaluate", KNOWN)
def test_validation_loss_is_that_of_the_validation_part(tmp_path: Path, evaluate: Evaluate) -> None:
    val_losses, events = trained(tmp_path / "run", evaluate)
    evaluated = [event.val_loss for event in events if isinstance(event, ev.Evaluated)]
    assert evaluated[:2] == pytest.approx(val_losses, rel=1e-6)
    assert len(evaluated) == 3
    assert not [event for event in events if isinstance(event, ev.Warned)]


@pytest.mark.parametrize("evaluate", UNKNOWN)
def test_no_validation_loss_where_the_part_is_not_known(tmp_path: Path, evaluate: Evaluate) -> None:
    _, events = trained(tmp_path / "run", evaluate)
    assert not [event for event in events if isinstance(event, ev.Evaluated)]
    assert len([event for event in events if isinstance(event, ev.Warned)]) == 1


def test_evaluation_within_the_loop_over_the_training_rows(tmp_path: Path) -> None:
    """The names of a training around an evaluation do not make it one of the training part."""

    def fit(model: Model, train_data: Tensor, held: Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x in torch.split(train_data, 4):
            with torch.no_grad():
                model(held, held)
            optimizer.zero_grad()
            torch.autograd.backward(model(x, x)[1])
            optimizer.step()

    with tui_lab.watch(out=tmp_path / "run"):
        fit(Model(), PARTS["train"], PARTS["val"])
    lines = (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()
    assert sum(isinstance(ev.parse_event(line), ev.Evaluated) for line in lines) == 2


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["val_loader"], "val"),
        (["model", "self", "validation_set"], "validation"),
        (["vali_data", "vali_loader"], "vali"),
        (["testloader"], "test"),
        (["eval_dataloader"], "eval"),
        (["train_data"], "train"),
        (["train_loader", "val_loader"], ""),
        (["test", "dev"], "dev"),
        (["holdout"], "held_out"),
        (["interval", "value", "contest", "evaluate", "strain"], ""),
    ],
)
def test_parts_in_names(names: list[str], part: str) -> None:
    assert part_in(names) == part
