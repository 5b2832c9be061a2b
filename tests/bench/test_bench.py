"""Benchmarks: the baselines compute the same function as tui-lab, and the figures and tables are right."""

import io
import json
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from tests.core.tiny import tiny, trainer
from tui_lab.bench import baselines, report, sweep_speed, train, watch_cost
from tui_lab.bench.baselines import Baseline, ours
from tui_lab.bench.ddp_cost import bench_scale, figures, link, ring_bytes
from tui_lab.bench.nanogpt_baseline import EagerGPT, EagerLoop, generate_uncached
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config, ModelConfig
from tui_lab.core.kernels.precision import Precision
from tui_lab.core.model import Transformer
from tui_lab.runs.machine import machine
from tui_lab.util.errors import ConfigError

MODEL = ModelConfig(d_model=8, n_layers=2, n_heads=2, d_head=6, d_ff=8, context=7)


def test_nanogpt_baseline_computes_the_same_loss() -> None:
    model = Transformer(MODEL, 11, seed=3)
    baseline = EagerGPT(MODEL, 11).take_weights(model)
    x = torch.randint(0, 11, (3, 7))
    torch.testing.assert_close(baseline(x)[:, 0], model(x)[:, -1])
    y = x.roll(-1, 1)
    y[0, :3] = -1
    expected = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-1)
    loop = EagerLoop(baseline, 1e-3)
    assert loop.step(x, y) == pytest.approx(expected.item(), rel=1e-6)
    assert loop.step(x, y) < expected.item()


def test_uncached_generation_is_greedy() -> None:
    baseline = EagerGPT(MODEL, 11).take_weights(Transformer(MODEL, 11, seed=3)).eval()
    ids = torch.tensor([[1, 2, 3]])
    generated = generate_uncached(baseline, ids, 9)
    assert generated.shape == (1, 12)
    assert generated[0, 3] == baseline(ids)[0, -1].argmax()


@pytest.mark.slow
def test_bench_train_gives_rows_limits_and_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(train.ONLY, "reverse", ("nanoGPT-style, eager",))
    measured = train.bench_train("reverse", rounds=6)
    assert set(measured["rows"]) == {"tui-lab", "nanoGPT-style, eager"}
    assert measured["losses_agree"]["nanoGPT-style, eager"]["agree"]
    assert all(0 < row["share_of_limit"] < 1 for row in measured["rows"].values())
    assert measured["limit"] in measured["gemm_gflop_per_s"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("make", [baselines.hugging_face, baselines.x_transformers])
def test_peer_trains_in_each_precision(
    make: Callable[[Config, int, Precision], Baseline], precision: Precision
) -> None:
    pytest.importorskip("transformers" if make is baselines.hugging_face else "x_transformers")
    baseline = make(tiny("train.batch_size=4"), 11, precision)
    assert baseline.precision == precision and baseline.name.endswith("bf16") == (precision == "bf16")
    x = torch.arange(20).view(4, 5) % 11
    losses = [baseline.step(x, x.roll(-1, 1)) for _ in range(3)]
    assert losses[2] < losses[0] < 3 * math.log(11)


class StandInGPT(nn.Module):
    """In place of litgpt's GPT, which is in an environment of its own."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.embedding(ids))
        return logits


def litgpt_replies(precision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[float]:
    """What litgpt's process writes when it is asked for two steps."""
    monkeypatch.setitem(sys.modules, "litgpt", ModuleType("litgpt"))
    model = ModuleType("litgpt.model")
    monkeypatch.setattr(model, "GPT", StandInGPT, raising=False)
    monkeypatch.setattr(model, "Config", lambda **settings: SimpleNamespace(**settings), raising=False)
    monkeypatch.setitem(sys.modules, "litgpt.model", model)
    shape = {name: 4 for name in ("context", "n_layers", "n_heads", "d_model", "d_ff", "d_head")}
    threads = torch.get_num_threads()
    values = shape | {"n_vocab": 11, "lr": 0.1, "threads": threads, "precision": precision}
    monkeypatch.setattr(sys, "argv", ["litgpt_child", json.dumps(values)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(2 * "[[[1, 2, 3]], [[2, 3, 4]]]\n"))
    torch.manual_seed(0)
    runpy.run_path(baselines.__file__.replace("baselines", "litgpt_child"), run_name="__main__")
    return [float(line) for line in capsys.readouterr().out.splitlines()]


def test_litgpt_trains_in_each_precision(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    size, *exact = litgpt_replies("fp32", monkeypatch, capsys)
    size_again, *rounded = litgpt_replies("bf16", monkeypatch, capsys)
    assert size == size_again == 11 * 4 + 11 * 4 + 11
    assert rounded == pytest.approx(exact, rel=0.02) and rounded != exact
    assert exact[1] < exact[0] and rounded[1] < rounded[0]


@pytest.mark.parametrize("has_bf16", [True, False])
def test_each_peer_is_measured_in_the_precisions_of_the_processor(
    has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(config: Config, n_vocab: int, precision: Precision) -> Baseline:
        return Baseline(baselines.in_precision("a peer", precision), lambda x, y: 1.0, 1, precision=precision)

    def absent(config: Config, n_vocab: int, precision: Precision) -> Baseline:
        raise baselines.Absent("not installed: make peers")

    monkeypatch.setattr(train, "onednn_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(train, "FACTORIES", dict.fromkeys(baselines.FACTORIES, make) | {"litgpt": absent})
    precisions = train.precisions_of("pseudo-socrates")
    peers, reasons = train._peers("pseudo-socrates", tiny(), 11, precisions)
    expected = [p for _ in range(len(baselines.FACTORIES) - 1) for p in (("fp32", "bf16") if has_bf16 else ("fp32",))]
    assert [peer.precision for peer in peers] == expected and set(reasons) == {"litgpt"}
    assert train.precisions_of("reverse") == ("fp32",)


def test_flops_of_a_step() -> None:
    """6 per matrix weight and token (Kaplan et al. 2020), plus the products of attention."""
    config = settings.load("pseudo-socrates")
    n_vocab = 50257
    matrices = sum(
        p.numel() for n, p in Transformer(config.model, 8).named_parameters() if p.dim() == 2 and "layers" in n
    )
    tokens = config.train.batch_size * config.model.context
    attention = 12 * config.model.n_layers * tokens * config.model.context * config.model.n_heads * config.model.d_head
    assert train.flops(config, n_vocab) == 6 * tokens * (matrices + n_vocab * config.model.d_model) + attention


def test_write_into_replaces_only_the_text_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "markdown", lambda figures: "| new |")
    path = tmp_path / "performance.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_into(path, {})
    assert path.read_text() == f"before\n{report.BEGIN}\n| new |\n{report.END}\nafter\n"
    path.write_text("no marks")
    with pytest.raises(ConfigError) as caught:
        report.write_into(path, {})
    assert (caught.value.code, caught.value.problems[0].key) == ("invalid", "--write")
    assert path.read_text() == "no marks"


def test_bench_all_continues_after_a_failed_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(name: str, *options: str) -> object:
        if name == "generate":
            raise subprocess.CalledProcessError(2, name)
        return [name, *options]

    monkeypatch.setattr(report, "_measure", measure)
    progress: list[str] = []
    parts: list[set[str]] = []
    result = report.bench_all("my.txt", progress.append, lambda so_far: parts.append(set(so_far)))
    assert result["failed"] == ["generate"]
    assert len(progress) == 10  # One line per part, and one for the failure.
    assert result["headline"] == ["headline", "--text", "my.txt"] and len(result["ui"]) == 2
    assert "start" in parts[0] and "headline" not in parts[0]
    assert {"start", "train", "reverse", "flat", "ui", "watch", "sweep", "headline"} <= parts[-1]


def test_performance_document_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs/performance.md").read_text("utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_ours_runs_the_whole_trainer() -> None:
    training = trainer()
    baseline = ours(training)
    baseline.step(torch.zeros(1), torch.zeros(1))
    assert training.step == 1 and baseline.parameters == sum(p.numel() for p in training.model.parameters())


def test_cost_of_a_ring_all_reduce() -> None:
    assert ring_bytes(1_000_000, 2) == 4e6  # Two processes exchange their gradients once.
    assert ring_bytes(1_000_000, 10**9) == pytest.approx(8e6)  # Many: twice.
    slow = link(125e6, 10, 0.3)  # 1 Gbit at 10 Gbit/s takes 100 ms, less than the 200 ms of the backward pass.
    assert slow["wire_ms"] == pytest.approx(100) and slow["efficiency_hidden"] == 1
    assert slow["efficiency_nothing_hidden"] == pytest.approx(0.75)
    assert link(1250e6, 10, 0.3)["efficiency_hidden"] == pytest.approx(0.3 / (0.3 + 1.0 - 0.2))
    times = {"step": [3.0, 3.0], "step_without_all_reduce": [2.0, 2.0], "all_reduce": [1.5, 1.5]}
    cost = figures(1000, 2, times)
    assert cost["not_hidden_ms"] == pytest.approx(1000) and cost["gradient_mb"] == 0.004


def test_bench_scale_needs_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError) as caught:
        bench_scale("reverse", 2)
    assert caught.value.code == "missing"


def test_overhead_of_watching_is_the_ratio_of_the_medians() -> None:
    plain = [1.0, 2.0, 3.0, 100.0]
    figures = watch_cost.comparison(plain, [1.1 * seconds for seconds in plain], limit=0.05)
    assert figures["overhead"] == pytest.approx(0.1) and figures["overhead_95"] == pytest.approx([0.1, 0.1])
    assert figures["plain_ms"] == pytest.approx(2500) and figures["turns"] == 4
    assert not figures["within_limit"]
    memory = {"steps": [1000, 2000], "watched": {"growth_mib": 1.5}, "plain": {"growth_mib": 0.0}}
    text = report.markdown(
        {"machine": machine(), "date": "", "watch": {"time": {"1M": {"x": figures}}, "memory": memory}}
    )
    assert "| 1M, x | 2500.00 | 2750.00 | 10.0% | 10.0 … 10.0 | 5% |" in text and "+1.5 MiB" in text
    assert watch_cost.comparison(plain, plain, limit=0.05)["within_limit"]


def test_trials_per_minute_are_compared_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"1": iter((40.0, 60.0, 40.0)), "auto": iter((20.0, 40.0, 80.0))}
    workers = {"1": {"jobs": 1, "threads": 2}, "auto": {"jobs": 2, "threads": 1}}
    monkeypatch.setattr(sweep_speed, "_sweep", lambda preset, steps, trials, jobs: (next(seconds[jobs]), workers[jobs]))
    figures = sweep_speed.bench_sweep(["reverse"], trials=4, turns=3)
    part = figures["presets"]["reverse"]
    assert part["auto_is_faster"] == 1.5
    assert part["rows"]["--jobs auto"] == {"jobs": 2, "threads": 1, "trials_per_minute": 6.0}
    text = report.markdown({"machine": machine(), "date": "", "sweep": figures})
    assert "| reverse, 500 steps, `--jobs auto` | 2 × 1 | 6.0 | 1.50 |" in text


@pytest.mark.slow
def test_script_of_the_watch_benchmark_makes_the_steps_it_is_asked_for(tmp_path: Path) -> None:
    with watch_cost.script(tmp_path / "run", "tiny", "clip", watched=False) as script:
        assert script.parameters > 0 and script.memory_mib() > 0
        assert script.seconds(3) > 0
    with pytest.raises(ValueError):  # Its stdin is closed.
        script.seconds(1)


@pytest.mark.slow
def test_script_that_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), watch_cost.script(tmp_path / "run", "no such size", watched=False):
        pass
