"""The benches run end to end, small; that their yardsticks compute what ours computes is what makes them fair."""

import subprocess
from pathlib import Path

import pytest
import torch

from tui_lab.bench import report, train
from tui_lab.bench.baselines import ours
from tui_lab.bench.nanogpt_baseline import EagerGPT, EagerLoop, generate_uncached
from tui_lab.core.config import settings
from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.model import Transformer
from tui_lab.util.errors import ConfigError

MODEL = ModelConfig(d_model=8, n_layers=2, n_heads=2, d_head=6, d_ff=8, context=7)


def test_the_eager_loop_computes_what_ours_computes() -> None:
    model = Transformer(MODEL, 11, seed=3)
    twin = EagerGPT(MODEL, 11).take_weights(model)
    x = torch.randint(0, 11, (3, 7))
    torch.testing.assert_close(twin(x)[:, 0], model(x)[:, -1])
    y = x.roll(-1, 1)
    y[0, :3] = -1
    expected = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-1)
    loop = EagerLoop(twin, 1e-3)
    assert loop.step(x, y) == pytest.approx(expected.item(), rel=1e-6)
    assert loop.step(x, y) < expected.item(), "and it learns"


def test_the_uncached_loop_is_greedy() -> None:
    twin = EagerGPT(MODEL, 11).take_weights(Transformer(MODEL, 11, seed=3)).eval()
    ids = torch.tensor([[1, 2, 3]])
    made = generate_uncached(twin, ids, 9)
    assert made.shape == (1, 12)
    assert made[0, 3] == twin(ids)[0, -1].argmax()


@pytest.mark.slow
def test_train_names_every_row_the_limit_and_whether_losses_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("tui_lab.bench.train", fromlist=["ONLY"]).ONLY, "reverse", ("nanoGPT-style, eager",))
    found = train.bench_train("reverse", rounds=6)
    assert set(found["rows"]) == {"tui-lab", "nanoGPT-style, eager"}
    assert found["losses_agree"]["nanoGPT-style, eager"]["agree"]
    assert all(0 < row["share_of_limit"] < 1 for row in found["rows"].values())
    assert found["limit"] in found["gemm_gflop_per_s"]


def test_the_arithmetic_of_a_step_is_counted() -> None:
    """6 a weight of a matrix and token (Kaplan et al. 2020), and attention's products beside."""
    config = settings.load("pseudo-socrates")
    n_vocab = 50257
    matrices = sum(
        p.numel() for n, p in Transformer(config.model, 8).named_parameters() if p.dim() == 2 and "layers" in n
    )
    tokens = config.train.batch_size * config.model.context
    attention = 12 * config.model.n_layers * tokens * config.model.context * config.model.n_heads * config.model.d_head
    assert train.flops(config, n_vocab) == 6 * tokens * (matrices + n_vocab * config.model.d_model) + attention


def test_tables_go_between_the_marks_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "markdown", lambda figures: "| new |")
    path = tmp_path / "performance.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_into(path, {})
    assert path.read_text() == f"before\n{report.BEGIN}\n| new |\n{report.END}\nafter\n"
    path.write_text("no marks")
    with pytest.raises(ConfigError, match="figures: begin"):
        report.write_into(path, {})
    assert path.read_text() == "no marks"


def test_a_part_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(name: str, *options: str) -> object:
        if name == "generate":
            raise subprocess.CalledProcessError(2, name)
        return [name, *options]

    monkeypatch.setattr(report, "_measure", measure)
    said: list[str] = []
    kept: list[set[str]] = []
    found = report.bench_all("my.txt", said.append, lambda figures: kept.append(set(figures)))
    assert found["failed"] == ["generate"] and "not measured: generate: exit code 2" in said
    assert found["headline"] == ["headline", "--text", "my.txt"] and len(found["ui"]) == 2
    assert "start" in kept[0] and "headline" not in kept[0]
    assert {"start", "train", "reverse", "flat", "ui", "headline"} <= kept[-1]


def test_the_documents_marks_are_there() -> None:
    text = (Path(__file__).parents[2] / "docs/performance.md").read_text("utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_ours_is_the_whole_trainer() -> None:
    from tests.core.tiny import trainer

    training = trainer()
    contender = ours(training)
    contender.step(torch.zeros(1), torch.zeros(1))
    assert training.step == 1 and contender.parameters == sum(p.numel() for p in training.model.parameters())


def test_the_arithmetic_of_a_ring() -> None:
    from tui_lab.bench.ddp_cost import figures, link, ring_bytes

    assert ring_bytes(1_000_000, 2) == 4e6, "two processes exchange their gradients once"
    assert ring_bytes(1_000_000, 10**9) == pytest.approx(8e6), "many: twice"
    slow = link(125e6, 10, 0.3)  # 1 Gbit at 10 Gbit/s: 100 ms, all of which fits behind 200 ms of backward pass.
    assert slow["wire_ms"] == pytest.approx(100) and slow["efficiency_hidden"] == 1
    assert slow["efficiency_nothing_hidden"] == pytest.approx(0.75)
    assert link(1250e6, 10, 0.3)["efficiency_hidden"] == pytest.approx(0.3 / (0.3 + 1.0 - 0.2))
    times = {"together": [3.0, 3.0], "apart": [2.0, 2.0], "reduction": [1.5, 1.5], "agreement": [0.1, 0.1]}
    found = figures(1000, 2, times)
    assert found["not_hidden_ms"] == pytest.approx(1000) and found["gradient_mb"] == 0.004


def test_scale_says_how_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_lab.bench.ddp_cost import bench_scale

    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node 2 -m tui_lab bench scale"):
        bench_scale("reverse", 2)
