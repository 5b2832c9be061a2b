"""Looks inside a script's model: the same figures as from the model itself, and training that does not notice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.inside.models import Gpt, V
from tests.core.watch import loops
from tui_lab.core import commands as cmd
from tui_lab.core.inside.ablation import ablate
from tui_lab.core.inside.lens import logit_lens
from tui_lab.core.inside.norms import stream_norms
from tui_lab.core.inside.results import Ablation, LogitLens, StreamNorms
from tui_lab.core.watch.answers.inside_answers import InsideAnswer, read_inside
from tui_lab.core.watch.recording import Recording

T = 6
LOOKS: tuple[cmd.Look, ...] = ("lens", "ablation", "norms")
OnStep = Callable[[], None]


class ScriptGpt(nn.Module):
    """As nanoGPT: all logits and a loss with targets, the last logits without; it counts its calls in a buffer."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.transformer = Gpt()
        self.drop = nn.Dropout(0.2)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        self.calls += 1
        gpt = self.transformer
        x = self.drop(gpt.wte(idx) + gpt.wpe(torch.arange(idx.shape[1])))
        for block in gpt.h:
            x = block(x)[0]
        x = gpt.ln_f(x)
        assert gpt.lm_head is not None
        if targets is None:
            return gpt.lm_head(x[:, -1:]), None
        logits = gpt.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class AllLogits(nn.Module):
    """What a look must see of a `ScriptGpt`: the logits of every position."""

    def __init__(self, inner: ScriptGpt) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.inner(ids, ids)[0]
        return logits


def batch(step: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(V, (5, T + 1), generator=torch.Generator().manual_seed(step))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def train(
    steps: int, after_step: OnStep = lambda: None, model: ScriptGpt | None = None
) -> tuple[ScriptGpt, list[float]]:
    """Train; return the model and all losses."""
    torch.manual_seed(0)
    model = model or ScriptGpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        _, loss = model(*batch(step))
        assert loss is not None
        loss.backward()
        optimizer.step()
        after_step()
        losses.append(loss.item())
        assert all(p.grad is not None for p in model.parameters())
        optimizer.zero_grad(set_to_none=False)
    return model, losses


def look_at_each_step(folder: Path, steps: int) -> tuple[ScriptGpt, list[float], dict[cmd.Look, InsideAnswer]]:
    """Record a training in which every look is asked for at each step; return the latest answers too."""
    recording = Recording.start("test", ["test.py"], folder / "run")
    recording.recorder.batches.always = True

    def ask() -> None:
        for look in LOOKS:
            recording.boundary.control.commands.put(cmd.LookInside(look, look, row=1, how="mean"))

    model, losses = train(steps, ask)
    recording.end()
    answers = {look: answer for look in LOOKS if (answer := read_inside(recording.run.path, look)) is not None}
    return model, losses, answers


def test_training_is_bit_identical_and_nothing_stays_on_the_model(tmp_path: Path) -> None:
    watched, losses, answers = look_at_each_step(tmp_path, steps=5)
    assert set(answers) == set(LOOKS) and not any(isinstance(answer.result, str) for answer in answers.values())
    rng = torch.get_rng_state()
    alone, expected = train(5)
    assert losses == expected
    assert torch.equal(rng, torch.get_rng_state())
    ours, theirs = watched.state_dict(), alone.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs), "weights, and the buffer that counts calls"
    assert all(
        torch.equal(p.grad, q.grad)
        for p, q in zip(watched.parameters(), alone.parameters(), strict=True)
        if p.grad is not None and q.grad is not None
    )
    assert all(module.training for module in watched.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


@pytest.mark.slow
def test_compiled_model_is_looked_into_and_not_compiled_again(tmp_path: Path) -> None:
    graphs: list[nn.Module] = []

    def backend(graph: nn.Module, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    recording = Recording.start("test", ["test.py"], tmp_path / "run")
    recording.recorder.batches.always = True
    torch.manual_seed(0)
    inner = ScriptGpt()
    model = torch.compile(inner, backend=backend)
    optimizer = torch.optim.AdamW(inner.parameters(), lr=1e-2)
    losses = []
    for step in range(4):
        _, loss = model(*batch(step))
        loss.backward()
        optimizer.step()
        recording.boundary.control.commands.put(cmd.LookInside("a", "lens"))
        losses.append(loss.item())
        optimizer.zero_grad(set_to_none=False)
    recording.end()
    answer = read_inside(recording.run.path, "a")
    assert answer is not None and isinstance(answer.result, LogitLens)
    assert len(graphs) == 1
    assert losses == pytest.approx(train(4)[1], rel=1e-5)


def test_answers_are_what_the_model_itself_says(tmp_path: Path) -> None:
    recording = Recording.start("test", ["test.py"], tmp_path / "run")
    recording.recorder.batches.always = True
    model = ScriptGpt()
    snapshots: list[dict[str, Tensor]] = []

    def ask() -> None:
        snapshots.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        for look in LOOKS:
            recording.boundary.control.commands.put(cmd.LookInside(look, look, row=1, how="mean"))

    train(3, ask, model)
    recording.end()
    answers = {look: read_inside(recording.run.path, look) for look in LOOKS}
    lens, ablation, norms = (answer.result if (answer := answers[look]) else None for look in LOOKS)
    answer = answers["lens"]
    assert answer is not None
    model.load_state_dict(snapshots[answer.step - 1])
    x, y = (tensor.numpy() for tensor in batch(answer.batch_step))
    np.testing.assert_array_equal(answer.x, x)
    np.testing.assert_array_equal(answer.y, y)
    seen = AllLogits(model).eval()
    expected_lens, expected_norms = logit_lens(seen, x[1], y[1]), stream_norms(seen, x[1])
    expected = ablate(seen, x[[1, 2, 3, 4]], y[[1, 2, 3, 4]], "mean")
    assert isinstance(lens, LogitLens) and isinstance(expected_lens, LogitLens)
    np.testing.assert_array_equal(lens.losses, expected_lens.losses)
    np.testing.assert_array_equal(lens.top, expected_lens.top)
    assert lens.places == ("embedding", "transformer.h.0", "transformer.h.1")
    assert isinstance(ablation, Ablation) and isinstance(expected, Ablation)
    np.testing.assert_array_equal(ablation.others.heads, expected.others.heads)
    assert (ablation.how, ablation.n_others, ablation.example.base) == ("mean", 3, expected.example.base)
    assert isinstance(norms, StreamNorms) and isinstance(expected_norms, StreamNorms)
    np.testing.assert_array_equal(norms.feed_forward, expected_norms.feed_forward)


def test_model_without_tokens_and_one_without_layers_say_why(tmp_path: Path) -> None:
    recording = Recording.start("test", ["test.py"], tmp_path / "run")
    for _ in loops.without_tokens():
        recording.boundary.control.commands.put(cmd.LookInside("a", "lens"))
    recording.end()
    answer = read_inside(recording.run.path, "a")
    assert answer is not None and isinstance(answer.result, str) and answer.x.size == 0


def test_answer_is_not_written_outside_its_folder(tmp_path: Path) -> None:
    recording = Recording.start("test", ["test.py"], tmp_path / "run")
    for bad_id in ("", "../x", "a/b"):
        recording.boundary.control.commands.put(cmd.LookInside(bad_id, "lens"))
    train(2)
    recording.end()
    assert not list((tmp_path / "run").glob("answers/*")) and not list(tmp_path.rglob("x.*"))
