"""Numbers in the texts of lessons 4 to 6 that no fact checks: sizes, entropies, scores before training."""

import ast
import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.load import BUILTIN
from tui_lab.core.model import Transformer
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer
from tui_lab.data.dataset import Task


def lesson_task(name: str) -> tuple[Config, Task]:
    config = settings.load(str(BUILTIN / name))
    return config, build_task(config)


def transformer(config: Config, n_vocab: int) -> Transformer:
    with torch.device("meta"):
        return Transformer(config.model, n_vocab)


def n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def entropy(symbols: Iterable[object]) -> float:
    counts = Counter(symbols)
    return -sum(n / counts.total() * math.log(n / counts.total()) for n in counts.values())


def test_text_of_lesson_4() -> None:
    _, task = lesson_task("4-optimizers/sgd.toml")
    assert task.tokenizer.n_vocab == 57
    assert task.train.n_examples == 1786
    x, y = task.train.examples(np.arange(task.train.n_examples))
    single = entropy(y.ravel().tolist())
    pairs = entropy(zip(x.ravel().tolist(), y.ravel().tolist(), strict=True)) - entropy(x.ravel().tolist())
    assert (round(single, 2), round(pairs, 2)) == (3.21, 2.22)


def test_sizes_of_the_models_of_lesson_5() -> None:
    reverse, reverse_task = lesson_task("5-to-socrates/reverse.toml")
    final, final_task = lesson_task("5-to-socrates/final.toml")
    assert n_parameters(transformer(reverse, reverse_task.tokenizer.n_vocab)) == 39_178
    assert final_task.tokenizer.n_vocab == 1764
    assert n_parameters(transformer(final, 1764)) == 2_114_564
    full = transformer(settings.load("pseudo-socrates"), 50_257)
    assert n_parameters(full) == 17_696_177
    assert (n_parameters(full.layers), 2 * full.W_E.weight.numel()) == (1_543_200, 16_082_240)


def test_scores_of_the_final_model_before_training() -> None:
    """With v = 20 they have a deviation of √20 from layer 2 on."""
    config = settings.load("pseudo-socrates", ["data.tokenizer=char", "data.vocab=seen"])
    task = build_task(config)
    model = Transformer(config.model, task.tokenizer.n_vocab)
    deviations: list[float] = []
    largest: list[tuple[float, float]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, Tensor], weights: Tensor) -> None:
        q, k = inputs
        scores = q @ k.transpose(2, 3)
        deviations.append(scores.std().item())
        unscaled = scores.masked_fill(weights == 0, -math.inf).softmax(-1)
        # Of the last query, which sees all positions.
        largest.append((unscaled[:, :, -1].amax(-1).mean().item(), weights[:, :, -1].amax(-1).mean().item()))

    for module in model.attention_modules():
        module.register_forward_hook(look)
    with torch.no_grad():
        model(torch.from_numpy(task.train.examples(np.arange(0, 1600, 100))[0]))
    assert all(4.05 < deviation < 4.85 for deviation in deviations[1:])
    assert largest[1] == pytest.approx((0.5, 0.05), abs=0.05)
    assert largest[1][1] < 0.07


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_map_of_lesson_5_points_at_the_digit_to_write(seed: int) -> None:
    config = settings.changed(settings.load(str(BUILTIN / "5-to-socrates" / "reverse.toml")), "train.seed", seed)
    task = build_task(config)
    trainer = Trainer(set_up(config, task))
    for event in trainer.events():
        assert not isinstance(event, ev.Failed)
    assert isinstance(trainer.model, Transformer)
    maps: list[Tensor] = []
    attention = trainer.model.attention_modules()[0]
    attention.register_forward_hook(lambda module, inputs, weights: maps.append(weights.mean(dim=(0, 1))))
    with torch.no_grad():
        trainer.model(torch.from_numpy(task.val.examples(np.arange(256))[0]))
    rows = maps[0].tolist()
    assert 0.55 < rows[4][2] < 0.76 and 0.49 < rows[5][1] < 0.76
    assert rows[6][0] > 0.3 and rows[6][1] > 0.3


def test_script_of_lesson_6_never_clears_its_gradients() -> None:
    source = (BUILTIN / "6-your-script" / "letters.py").read_text("utf-8")
    tree = ast.parse(source)
    text = next(
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "TEXT"
        and isinstance(node.value, ast.Constant)
    )
    assert isinstance(text, str)
    assert (len(text), len(set(text)), round(entropy(text), 2)) == (542, 33, 2.96)
    assert "zero_grad" not in source and "    loss.backward()\n" in source


def test_entropy_of_the_windows_of_lesson_4() -> None:
    config, task = lesson_task("4-optimizers/little.toml")
    _, y = task.train.examples(np.arange(config.data.overfit))
    assert round(entropy(y.ravel().tolist()), 2) == 3.16
