"""Train the nanoGPT-style loop: `python -m tui_lab.bench.baseline_process CONFIG` prints its figures as JSON."""

import json
import sys
import time

import torch

from tui_lab.bench.nanogpt_baseline import AllLogits, EagerGPT, EagerLoop
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.model import Transformer
from tui_lab.core.training.evaluation import evaluate
from tui_lab.core.training.optim import lr_at
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.core.user_code.external_model import ExternalModel

EMA = 0.9


def train(config: Config) -> dict[str, float | str]:
    """Train to the config's target loss with tui-lab's initial weights, batches, learning rates and evaluations."""
    task = build_task(config)
    loader = build_loader(config, task)
    n_vocab = task.tokenizer.n_vocab
    model = EagerGPT(config.model, n_vocab).take_weights(Transformer(config.model, n_vocab, seed=config.train.seed))
    evaluated = ExternalModel(AllLogits(model), config.model, n_vocab)
    loop = EagerLoop(model, config.optim.lr, "bf16" if config.train.precision == "bf16" else "fp32")
    average = float("inf")
    step = 0
    tokens = 0
    train_seconds = 0.0
    while average > config.train.target_loss and step < config.train.steps:
        start = time.perf_counter()
        for group in loop.optimizer.param_groups:
            group["lr"] = lr_at(step, config.train.steps, config.optim)
        batch = loader.batch(step)
        loss = loop.step(torch.from_numpy(batch.x), torch.from_numpy(batch.y))
        average = loss if step == 0 else EMA * average + (1 - EMA) * loss
        step += 1
        tokens += batch.y.size
        train_seconds += time.perf_counter() - start
        if step % config.train.eval_every == 0:
            evaluate(evaluated, task, config.train.eval_examples, torch.device("cpu"))
            model.train()
    validation = evaluate(evaluated, task, config.train.eval_examples, torch.device("cpu"))
    assert validation is not None
    return {
        "reason": "target" if average <= config.train.target_loss else "done",
        "steps": step,
        "tokens": tokens,
        "train_loss": average,
        "val_loss": validation.loss,
        "train_seconds": train_seconds,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(train(settings.load(sys.argv[1]))) + "\n")
