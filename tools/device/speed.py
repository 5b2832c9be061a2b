"""Milliseconds a step of tui-lab and of a nanoGPT-style loop in its best precision; seconds to the headline's loss."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from tools.device.cards import bf16_peak
from tools.device.setting import Row, Setting, compiled_trainer, make_steps, trainer_of
from tui_lab.bench.nanogpt_baseline import EagerGPT
from tui_lab.bench.time_to_loss import STEPS, TARGET
from tui_lab.bench.train import PLAIN, flops
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.precision import autocast
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.core.training.trainer import Trainer
from tui_lab.runs.machine import machine

GPT2 = (
    "model.d_model=768",
    "model.n_layers=12",
    "model.n_heads=12",
    "model.d_head=64",
    "model.d_ff=3072",
    "model.context=1024",
    "train.batch_size=12",
)
"""GPT-2 124M's layers and nanoGPT's micro-batch. Our head is not tied to the embedding: 163M parameters, equal work."""
ROUNDS = 3
SECONDS_A_ROUND = 1.0
GEMM_SIZE = 8192
PADDED_TO = 64
"""nanoGPT pads a large vocabulary to a multiple of this many tokens."""
BEST_PEER = "nanoGPT-style, bf16, compiled"


def machine_facts(setting: Setting) -> Iterator[Row]:
    """The card, versions, and measured matrix products."""
    facts: dict[str, Any] = machine()
    if setting.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "gpu": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "bf16_peak_tflops": bf16_peak(properties.name),
        }
    yield Row("fact", "machine", figures=facts)
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        yield Row("fact", f"GEMM {name}", figures={"tflops": gemm_tflops(setting, dtype)})


def gemm_tflops(setting: Setting, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of the fastest of some square products of random matrices."""
    n = setting.choose(GEMM_SIZE, 64)
    a, b = (torch.randn(n, n, device=setting.device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(setting.choose(12, 2)):
        start = _now(setting.device)
        _ = a @ b
        seconds.append(_now(setting.device) - start)
    return float(2 * n**3 / min(seconds) / 1e12)


def _now(device: str) -> float:
    """Return the time once everything queued on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def reverse(setting: Setting) -> Iterator[Row]:
    yield from _compare(setting, "reverse", setting.config("reverse", *PLAIN), compiles_ours=True)


def socrates(setting: Setting) -> Iterator[Row]:
    yield from _compare(setting, "socrates", setting.config("socrates", *PLAIN))


def pseudo_socrates(setting: Setting) -> Iterator[Row]:
    yield from _compare(setting, "pseudo-socrates", setting.config("pseudo-socrates", *PLAIN))


def gpt2(setting: Setting) -> Iterator[Row]:
    yield from _compare(
        setting, "GPT-2 124M shape", setting.config("pseudo-socrates", *PLAIN, *GPT2), compiles_ours=True
    )


@dataclass
class Contender:
    """A program that trains. run: takes that many steps and waits once. seconds: of a step, in each round."""

    name: str
    run: Callable[[int], None]
    seconds: list[float]


def _compare(setting: Setting, shape: str, config: Config, *, compiles_ours: bool = False) -> Iterator[Row]:
    """Yield a row for each program soon after it is measured, then again with the medians of all rounds in turn.

    compiles_ours: whether our trainer is also measured with `train.compile`.
    """
    report = _Report(setting, shape, config)
    contenders = []
    for precision in ("bf16", "fp32"):
        contenders.append(Contender(f"tui-lab, {precision}", _ours(config, precision), []))
        yield report.measured(contenders[-1])
    loop = _NanoLoop(setting, config)
    contenders.append(Contender("nanoGPT-style, bf16, eager", loop.run, []))
    report.measured(contenders[-1])
    # Compiling takes most of the time of this part, and may exceed it.
    for contender in contenders:
        yield report.row(contender, contenders)
    compiled = _NanoLoop(setting, config, compiled=True)
    contenders.append(Contender(BEST_PEER, compiled.run, []))
    report.measured(contenders[-1])
    if compiles_ours:
        ours = compiled_trainer(setting, settings.changed(config, "train.precision", "bf16"))
        contenders.append(Contender("tui-lab, bf16, compiled", partial(make_steps, ours), []))
        report.measured(contenders[-1])
    for _ in range(setting.choose(ROUNDS, 2) - 1):
        for contender in contenders:
            report.measured(contender)
    for contender in contenders:
        yield report.row(contender, contenders)


def _ours(config: Config, precision: str) -> Callable[[int], None]:
    trainer = trainer_of(settings.changed(config, "train.precision", precision))
    return partial(make_steps, trainer)


class _NanoLoop:
    """nanoGPT's training loop: autocast, fused optimizer, pinned batches, and no waiting for the loss of each step."""

    def __init__(self, setting: Setting, config: Config, *, compiled: bool = False) -> None:
        self._device = setting.torch_device
        task = build_task(config)
        self._loader = build_loader(config, task)
        n_vocab = task.tokenizer.n_vocab
        if n_vocab > 1000:
            n_vocab = -(-n_vocab // PADDED_TO) * PADDED_TO
        torch.manual_seed(0)
        model = EagerGPT(config.model, n_vocab).to(self._device).train()
        self._optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr, fused=True)
        # In a dry run compiling would take most of the time.
        self._model = cast(nn.Module, torch.compile(model)) if compiled and not setting.dry_run else model
        self._step = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            batch = self._loader.batch(self._step)
            self._step += 1
            x, y = (self._on_device(torch.from_numpy(array).contiguous()) for array in (batch.x, batch.y))
            with autocast("bf16", self._device):
                loss = self._model(x, y)
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        if not torch.isfinite(loss):
            raise RuntimeError("the nanoGPT-style loop has a loss that is not finite")

    def _on_device(self, ids: Tensor) -> Tensor:
        if self._device.type == "cpu":
            return ids
        return ids.pin_memory().to(self._device, non_blocking=True)


class _Report:
    def __init__(self, setting: Setting, shape: str, config: Config) -> None:
        self._setting = setting
        self._shape = shape
        task = build_task(config)
        self._tokens = config.train.batch_size * task.train.length
        self._flops = flops(config, task.tokenizer.n_vocab)

    def measured(self, contender: Contender) -> Row:
        """Let a contender take steps for about a second, after a warm-up the first time, and return its row."""
        if not contender.seconds:
            contender.run(self._setting.choose(3, 1))
        steps = self._setting.choose(5, 1)
        if contender.seconds:
            steps = min(2000, max(5, round(SECONDS_A_ROUND / contender.seconds[-1])))
        if self._setting.dry_run:
            steps = 1
        start = _now(self._setting.device)
        contender.run(steps)
        contender.seconds.append((_now(self._setting.device) - start) / steps)
        return self.row(contender, [])

    def row(self, contender: Contender, contenders: list[Contender]) -> Row:
        seconds = _typical(contender)
        peers = [_typical(each) for each in contenders if each.name.startswith("nanoGPT")]
        figures: dict[str, Any] = {
            "shape": self._shape,
            "program": contender.name,
            "ms_a_step": 1e3 * seconds,
            "tokens_per_s": self._tokens / seconds,
            "tflops": self._flops / seconds / 1e12,
            "times_best_peer": min(peers) / seconds if peers else None,
        }
        return Row("speed", contender.name, figures=figures)


def _typical(contender: Contender) -> float:
    """Return the median step; the first round of a program that is measured more often includes its warm-up."""
    return statistics.median(contender.seconds[1:] or contender.seconds)


def headline(setting: Setting) -> Iterator[Row]:
    """Seconds until the running train loss of pseudo-socrates is 0.37, on the bundled dialogues."""
    for vocabulary in ("full", "seen"):
        for precision in ("bf16", "fp32"):
            steps = setting.choose(STEPS, 2)
            overrides = [f"train.target_loss={TARGET}", f"train.steps={steps}", f"data.vocab={vocabulary}"]
            start = time.perf_counter()
            trainer = trainer_of(setting.config("pseudo-socrates", *overrides, f"train.precision={precision}"))
            reason = _train(trainer)
            seconds = time.perf_counter() - start
            figures = {
                "program": f"tui-lab, {precision}, {vocabulary} vocabulary",
                "seconds": seconds,
                "steps": trainer.step,
                "tokens": trainer.progress.tokens,
                "train_loss": trainer.progress.loss_ema,
                "reason": reason,
            }
            reached = setting.dry_run or reason == "target"
            yield Row("headline", f"{precision}, {vocabulary}", reached, figures)


def _train(trainer: Trainer) -> str:
    last: ev.Event | None = None
    for event in trainer.events():
        last = event
    return last.reason if isinstance(last, ev.Stopped) else str(last)
