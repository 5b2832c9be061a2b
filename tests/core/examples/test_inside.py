"""Looking inside the model of a run folder: the same figures as from the model itself, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.core.recorded import recorded, recorded_script, update
from tests.core.tiny import tiny
from tui_lab.core.examples.inside import InsideRequest, LayerValue, inside_run, layers_until
from tui_lab.core.inference.load_model import load_chosen
from tui_lab.core.inside.ablation import ablate
from tui_lab.core.inside.lens import logit_lens
from tui_lab.core.inside.norms import stream_norms
from tui_lab.core.inside.results import Ablation, LogitLens, StreamNorms
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.task_factory import build_task
from tui_lab.util.errors import ConfigError, RunError


def trained(folder: Path, *overrides: str) -> Run:
    config = tiny("train.steps=4", "train.checkpoint_every=2", "model.n_layers=2", *overrides)
    opened = open_run.start("tiny", config, folder)
    for _ in opened.run.record(opened.trainer.events()):
        pass
    return opened.run


def test_report_has_what_the_model_says_of_the_example(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    report = inside_run(run, InsideRequest(part="train", example=5, others=2, how="mean"))
    chosen, model, _ = load_chosen(run, "last", 4)
    train = build_task(chosen.config).train
    n = train.n_examples
    x, y = train.examples((5 + np.arange(3) * (n // 3)) % n)
    assert (report.step, report.example, report.x, report.y) == (4, 5, tuple(x[0].tolist()), tuple(y[0].tolist()))
    lens, ablation, norms = logit_lens(model, x[0], y[0]), ablate(model, x, y, "mean"), stream_norms(model, x[0])
    assert isinstance(lens, LogitLens) and isinstance(report.lens, LogitLens)
    np.testing.assert_array_equal(report.lens.losses, lens.losses)
    assert isinstance(ablation, Ablation) and isinstance(report.ablation, Ablation)
    assert report.ablation.n_others == 2
    np.testing.assert_array_equal(report.ablation.others.heads, ablation.others.heads)
    assert isinstance(norms, StreamNorms) and isinstance(report.norms, StreamNorms)
    np.testing.assert_array_equal(report.norms.stream, norms.stream)


def test_text_is_looked_at_like_the_example_with_the_same_tokens(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    example = inside_run(run, InsideRequest(("lens",), example=1))
    digits = example.text[:3]
    text = inside_run(run, InsideRequest(("lens",), text=digits))
    assert (text.x, text.y, text.example, text.part) == (example.x, example.y, None, None)
    assert isinstance(text.lens, LogitLens) and isinstance(example.lens, LogitLens)
    np.testing.assert_array_equal(text.lens.losses, example.lens.losses)
    assert text.ablation is None and text.norms is None and text.layers is None


def test_next_tokens_of_a_text_are_its_targets(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("the cat sees the dog. " * 40, "utf-8")
    corpus = (f"data.path={tmp_path / 'corpus.txt'}", "data.task=text", "data.tokenizer=char", "model.context=8")
    run = trained(tmp_path / "run", *corpus)
    report = inside_run(run, InsideRequest(("norms",), text="the cat"))
    assert report.x == tuple(b"the ca") and report.y == tuple(b"he cat")
    for text in ("t", "the cat sees"):
        with pytest.raises(ConfigError) as refused:
            inside_run(run, InsideRequest(text=text))
        assert (refused.value.code, refused.value.problems[0].key) == ("invalid", "--text")


def test_weights_are_those_of_the_step(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    early, late = (inside_run(run, InsideRequest(("lens",), step=step)) for step in (3, 4))
    assert (early.step, late.step) == (2, 4)
    assert isinstance(early.lens, LogitLens) and isinstance(late.lens, LogitLens)
    assert not np.array_equal(early.lens.probabilities, late.lens.probabilities)
    with pytest.raises(RunError) as refused:
        inside_run(run, InsideRequest(step=1))
    assert (refused.value.code, refused.value.problems[0].allowed) == ("not_found", "2, 4")


def test_example_must_exist_and_a_row_have_its_length(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    for request, key in (
        (InsideRequest(example=10**6), "--example"),
        (InsideRequest(text="12"), "--text"),
    ):
        with pytest.raises(ConfigError) as refused:
            inside_run(run, request)
        assert refused.value.problems[0].key == key


def test_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError) as refused:
        inside_run(recorded_script(tmp_path / "run"), InsideRequest())
    assert refused.value.code == "unavailable"


def test_layers_are_those_recorded_until_the_step(tmp_path: Path) -> None:
    norms = {1: 3.0, 51: 1.0, 101: 2.0, 151: 9.0}
    steps = [update(step, by_layer={"grad_norm": {"layers.0": value}}) for step, value in norms.items()]
    run = recorded(tmp_path / "run", steps)
    assert layers_until(run, 120) == {"grad_norm": {"layers.0": LayerValue(101, 2.0, 1.0, 3.0)}}
    assert layers_until(run, 0) == {}
