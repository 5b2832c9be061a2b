"""Results on the device against those on the CPU: model, loss, precision, generation."""

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.device.setting import Row, Setting, at_most, is_true, trainer_of
from tui_lab.bench.nanogpt_baseline import AllLogits, EagerGPT
from tui_lab.core.config.schema import Config
from tui_lab.core.inference.generate import generate
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.kernels.autotune import kernels_for
from tui_lab.core.kernels.head_loss import head_loss_sum
from tui_lab.core.kernels.linear import Kernels
from tui_lab.core.kernels.precision import Precision
from tui_lab.core.model import Attention, Transformer
from tui_lab.core.training.evaluation import evaluate
from tui_lab.core.training.train_step import TrainStepHooks, backward
from tui_lab.core.user_code.external_model import ExternalModel
from tui_lab.data.tokenizers import decode

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
ROUNDING = {"fp32": 1e-4, "bf16": 0.03, "fp16": 0.01}
"""The largest relative difference to float32 on the CPU: of a tensor, by its norm."""
LOSS_ROUNDING = {"fp32": 1e-3, "bf16": 0.01, "fp16": 0.01}
"""The same, of a loss over the first steps of a training, in which rounding grows: Adam divides by small gradients."""


def difference(ours: Tensor, reference: Tensor) -> float:
    """Return ‖ours − reference‖ / ‖reference‖, computed in float64 on the CPU."""
    a, b = ours.detach().cpu().double(), reference.detach().cpu().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def largest_gradient_difference(model: nn.Module, reference: nn.Module) -> float:
    """Return the largest difference among the gradients of two models with the same parameters."""
    pairs = zip(model.parameters(), reference.parameters(), strict=True)
    return max(difference(a.grad, b.grad) for a, b in pairs if a.grad is not None and b.grad is not None)


def model(setting: Setting) -> Iterator[Row]:
    """Logits, loss and gradients of one batch in float32, for the shapes of two presets; dropout in attention."""
    for preset in ("socrates", "pseudo-socrates"):
        trainer = trainer_of(setting.config(preset, "model.dropout=0", "train.precision=fp32", device="cpu"))
        on_cpu = trainer.model
        on_device = copy.deepcopy(on_cpu).to(setting.device)
        batch = trainer.loader.batch(0)
        x, y = torch.from_numpy(batch.x).contiguous(), torch.from_numpy(batch.y).contiguous()
        with torch.no_grad():
            logits = on_device(x.to(setting.device))
            yield at_most(f"{preset}: logits", difference(logits, on_cpu(x)), ROUNDING["fp32"])
        expected, _ = backward(on_cpu, TrainStepHooks(), x, y)
        loss, _ = backward(on_device, TrainStepHooks(), x.to(setting.device), y.to(setting.device))
        yield at_most(f"{preset}: loss", difference(loss, expected), ROUNDING["fp32"])
        gradients = largest_gradient_difference(on_device, on_cpu)
        yield at_most(f"{preset}: gradients", gradients, 10 * ROUNDING["fp32"])
    yield from _attention_dropout(setting)


def _attention_dropout(setting: Setting, rate: float = 0.25) -> Iterator[Row]:
    """With one-hot values the output of attention is its weights, so that what dropout does to them can be counted."""
    t, d = 64, 64
    shape = setting.config("socrates", f"model.dropout={rate}").model
    attention = Attention(shape).to(setting.device).train()
    torch.manual_seed(0)
    q, k = (torch.randn(8, 4, t, d, device=setting.device) for _ in range(2))
    v = torch.eye(t, d, device=setting.device).expand(8, 4, t, d).contiguous()
    dropped = attention.attend(q, k, v, cached=False).cpu()
    expected = attention.weights(q, k).cpu()
    visible = expected > 0
    kept = visible & (dropped != 0)
    share = 1.0 - kept.sum().item() / visible.sum().item()
    # Four standard deviations of the share of n coin flips.
    margin = 4 * math.sqrt(rate * (1 - rate) / visible.sum().item())
    yield at_most("attention dropout: |dropped share − rate|", abs(share - rate), margin)
    scaled = dropped[kept] * (1 - rate)
    yield at_most("attention dropout: kept weights", difference(scaled, expected[kept]), ROUNDING["fp32"])


def loss(setting: Setting) -> Iterator[Row]:
    """The head and its loss in chunks, against a plain cross-entropy in float64 on the CPU."""
    rows = setting.choose(512, 24)
    d = setting.choose(160, 16)
    n_vocab = setting.choose(50257, 4999)
    generator = torch.Generator().manual_seed(0)
    h, weight, bias = (torch.randn(*size, generator=generator) for size in ((rows, d), (n_vocab, d), (n_vocab,)))
    weight *= 0.1
    targets = torch.randint(n_vocab, (rows,), generator=generator)
    targets[:3] = -1
    weight[targets[4]] = -3 * h[4]  # A target so unlikely that its probability is zero in float32.
    leaves = [tensor.double().requires_grad_() for tensor in (h, weight, bias)]
    reference = F.cross_entropy(F.linear(leaves[0], leaves[1], leaves[2]), targets, ignore_index=-1, reduction="sum")
    reference.backward()  # type: ignore[no-untyped-call]
    for precision in PRECISIONS:
        for chunk in (rows // 3, 4 * rows):
            kernels = Kernels(head_rows=chunk, precision=precision)
            ours = [tensor.to(setting.device, copy=True).requires_grad_() for tensor in (h, weight, bias)]
            summed = head_loss_sum(ours[0], ours[1], ours[2], targets.to(setting.device), kernels)
            # In float16 the gradients would round to zero without a scale; a sum over rows needs none.
            summed.backward()  # type: ignore[no-untyped-call]
            name = f"{precision}, chunks of {chunk}"
            yield at_most(f"{name}: loss", difference(summed, reference), ROUNDING[precision])
            gradients = [(a.grad, b.grad) for a, b in zip(ours, leaves, strict=True)]
            worst = max(difference(a, b) for a, b in gradients if a is not None and b is not None)
            yield at_most(f"{name}: gradients", worst, ROUNDING[precision])
            with torch.no_grad():
                without = head_loss_sum(ours[0], ours[1], ours[2], targets.to(setting.device), kernels)
            yield at_most(f"{name}: loss without gradients", difference(without, reference), ROUNDING[precision])


def precision(setting: Setting) -> Iterator[Row]:
    """The losses of the first steps of a training in each precision, against float32 on the CPU."""
    steps = setting.choose(10, 2)
    for preset in ("reverse", "pseudo-socrates"):
        plain = (f"train.steps={steps}", "train.eval_examples=8", "train.batch_size=4")
        expected = _losses(setting.config(preset, *plain, "train.precision=fp32", device="cpu"), steps)
        for name in PRECISIONS:
            config = setting.config(preset, *plain, f"train.precision={name}")
            losses = _losses(config, steps)
            worst = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))
            yield at_most(f"{preset}, {name}: losses of {steps} steps and validation", worst, LOSS_ROUNDING[name])
    yield from _own_model(setting)
    chosen = kernels_for(setting.config("socrates", "train.precision=auto"), 64).precision
    has_bf16 = setting.device == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    yield is_true(f"auto is {chosen}", setting.device == "cpu" or chosen == ("bf16" if has_bf16 else "fp16"))


def _losses(config: Config, steps: int) -> list[float]:
    """The losses of the first steps, and the validation loss after them."""
    trainer = trainer_of(config)
    losses = [trainer.train_step().loss for _ in range(steps)]
    validation = evaluate(trainer.model, trainer.task, 8, trainer.device)
    assert validation is not None
    return [*losses, validation.loss]


def _own_model(setting: Setting) -> Iterator[Row]:
    """A user's model, here a nanoGPT-style one with the weights of ours, computes the same in each precision."""
    trainer = trainer_of(setting.config("socrates", "model.dropout=0", device="cpu"))
    ours = trainer.model
    assert isinstance(ours, Transformer)
    x = torch.from_numpy(trainer.loader.batch(0).x).contiguous()
    with torch.no_grad():
        expected = ours(x)
    theirs = AllLogits(EagerGPT(ours.config, ours.n_vocab).take_weights(ours))
    for name in PRECISIONS:
        wrapped = ExternalModel(theirs, ours.config, ours.n_vocab).to(setting.device)
        wrapped.precision = name
        with torch.no_grad():
            logits = wrapped(x.to(setting.device))
        yield at_most(f"model.source, {name}: logits", difference(logits, expected), ROUNDING[name])


def generation(setting: Setting) -> Iterator[Row]:
    """Generated tokens and their probabilities, greedy and sampled, with and without the cache."""
    trainer = trainer_of(setting.config("socrates", "train.precision=fp32", device="cpu"))
    for _ in range(setting.choose(20, 2)):  # Clear preferences: rounding then changes no token.
        trainer.train_step()
    on_cpu = trainer.model
    assert isinstance(on_cpu, Transformer)
    tokenizer = trainer.task.tokenizer
    prompt = decode(tokenizer, trainer.task.val.examples(np.zeros(1, dtype=np.int64))[0][0][:8])
    n = setting.choose(64, 4)
    for name, sampling in (("greedy", Sampling(temperature=0.0)), ("sampled", Sampling(temperature=0.8, top_p=0.9))):
        expected = list(generate(on_cpu, tokenizer, prompt, max_new_tokens=n, sampling=sampling))
        model = copy.deepcopy(on_cpu).to(setting.device)
        for cache in (True, False):
            tokens = generate(model, tokenizer, prompt, max_new_tokens=n, sampling=sampling, use_cache=cache)
            equal = [a.token == b.token for a, b in zip(tokens, expected, strict=True)]
            yield is_true(f"{name}, cache {'on' if cache else 'off'}: the same tokens", all(equal), equal=sum(equal))
        for precision in PRECISIONS[1:]:
            model.set_kernels(Kernels(precision=precision))
            first = next(generate(model, tokenizer, prompt, max_new_tokens=1, sampling=sampling))
            change = abs(first.probability - expected[0].probability)
            yield at_most(f"{name}, {precision}: first probability", change, 0.02)
