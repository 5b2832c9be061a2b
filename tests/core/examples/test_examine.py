"""Questions about the examples of real, short runs: planted rows come first, leaks are found, errors have codes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.recorded import recorded, recorded_script
from tests.core.tiny import tiny, trainer_and_run
from tui_lab.core.examples.examine import ExamplesRequest, examine_examples
from tui_lab.core.examples.report import By, from_json
from tui_lab.core.examples.selection import select, target_stride
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import summarize
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, write_batch
from tui_lab.data.tasks.reverse import reverse_task
from tui_lab.data.tasks.text import TextWindows
from tui_lab.util.errors import LabError
from tui_lab.util.strict_json import dumps, loads

WORDS = ("abcdefgh", "hgfedcba", "aabbccdd", "ddccbbaa")
PLANTED = {30: "aghbdfce", 77: "hbeagcdf", 141: "hacfgbed"}
"""They begin as the rows in their place would: the first letter of a row is a target of the row before."""


def text_run(path: Path, *overrides: str, n: int = 200) -> Run:
    """A run over rows of eight letters: four words by turns, and three rows of shuffled letters."""
    rows = [PLANTED.get(i, WORDS[i % 4]) for i in range(n)]
    source = path / "corpus.txt"
    source.write_text("".join(rows) + "a", "utf-8")
    shape = ("model.d_model=16", "model.context=8", "train.batch_size=16", "optim.lr=0.01")
    data = ("data.task=text", "data.tokenizer=char", f"data.path={source}", "data.stride=8", "data.val_fraction=0.1")
    return finished(path / "run", *shape, *data, "data.vocab=seen", *overrides)


def finished(path: Path, *overrides: str) -> Run:
    training, run = trainer_and_run(path, *overrides)
    run.write_summary(summarize(run.record(training.events())).summary(str(path)))
    return run


def test_planted_rows_are_the_hardest_after_training(tmp_path: Path) -> None:
    run = text_run(tmp_path, "train.steps=120", "train.checkpoint_every=40")
    report = examine_examples(run, ExamplesRequest(top=5))
    assert {each.example.example for each in report.listed[:3]} == set(PLANTED)
    first = report.listed[0].example
    assert first.text[:8] == PLANTED[first.example] and first.offset == 8 * first.example
    losses = [each.example.loss for each in report.listed]
    assert losses == sorted(losses, key=lambda loss: -(loss or 0))
    assert first.loss is not None and report.loss is not None and first.loss > 3 * report.loss
    assert first.loss == pytest.approx(np.mean([loss for loss in first.losses if loss is not None]), rel=1e-5)
    wrong = examine_examples(run, ExamplesRequest("wrong", top=3))
    assert wrong.steps[-1] == 120 and len(wrong.steps) > 1
    assert {each.example.example for each in wrong.listed} == set(PLANTED)
    classes = examine_examples(run, ExamplesRequest("classes"))
    assert classes.loss == pytest.approx(report.loss)
    assert [sum(share.share_of_loss for share in each.classes) for each in classes.partitions] == pytest.approx([1, 1])
    assert from_json(loads(dumps(wrong.to_json()))) == wrong


def test_weights_of_a_file_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    run = finished(tmp_path / "a")
    weights = run.latest() / "model.safetensors"
    expected = examine_examples(run, ExamplesRequest())
    assert expected.step == 8
    given = examine_examples(run, ExamplesRequest(step=5, weights=weights))
    assert given.step == 5
    assert given.listed == expected.listed


def test_loss_of_a_part_is_that_of_the_model(tmp_path: Path) -> None:
    run = finished(tmp_path / "a")
    report = examine_examples(run, ExamplesRequest(part="val"))
    task = build_task(tiny())
    from tui_lab.core.inference.load_model import load_model

    model, _ = load_model(run)
    x, y = task.val.examples(np.arange(task.val.n_examples))
    with torch.no_grad():
        total = model.loss_sum(torch.from_numpy(x), torch.from_numpy(y)).item()
    assert report.loss == pytest.approx(total / (y >= 0).sum(), rel=1e-5)
    assert report.sample is not None and report.sample.n == task.val.n_examples and report.sample.seed is None


def test_a_duplicated_row_is_listed_once_with_its_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = "".join(chr(code) for code in rng.integers(97, 123, 4000))
    text = text[:3000] + text[320:420] + text[3000:] + text[640:740]  # In the training part; in validation.
    source = tmp_path / "corpus.txt"
    source.write_text(text, "utf-8")
    data = ("data.task=text", "data.tokenizer=char", f"data.path={source}", "data.stride=1", "data.val_fraction=0.2")
    run = recorded(tmp_path / "run", config=tiny("model.context=32", *data, "data.vocab=full"))
    from tui_lab.data.tokenizers import CharTokenizer

    (run.path / "tokenizer.json").write_text(dumps(CharTokenizer().state()), "utf-8")
    report = examine_examples(run, ExamplesRequest("duplicates"))
    places = {each.example.offset: each.copies.places[0].offset for each in report.listed if each.copies}
    assert places == {320: 3000, 352: 3032, 384: 3064}
    assert report.n_exact == 5  # The passage as seen from its other place has windows at 3008 and 3040.
    assert report.n_leaked in (2, 3) and report.leaked[0].copies is not None
    assert report.leaked[0].copies.places[0].part == "train"
    start = report.leaked[0].copies.places[0].offset
    assert start is not None and 640 <= start < 740


def test_leaked_validation_is_found_and_a_clean_one_is_not(tmp_path: Path) -> None:
    clean = examine_examples(recorded(tmp_path / "clean"), ExamplesRequest("duplicates"))
    assert (clean.n_exact, clean.n_leaked, clean.listed, clean.leaked) == (0, 0, (), ())
    leaked = examine_examples(
        recorded(tmp_path / "leaked", config=tiny("faults=['leaked_validation']")), ExamplesRequest("duplicates")
    )
    assert leaked.leak_sample is not None
    assert leaked.n_exact == 0 and leaked.n_leaked == leaked.leak_sample.n > 0


def test_windows_that_share_no_target_are_measured() -> None:
    windows = TextWindows(np.arange(1000) % 7, 32, 5, 0)
    assert target_stride(windows) == 7
    ids, sample = select(windows, windows.n_examples, 0, 0)
    offsets = windows.offsets(ids)
    assert (np.diff(offsets) >= 32).all() and (sample.n, sample.seed, sample.stride) == (len(ids), None, 7)
    drawn, sample = select(windows, windows.n_examples, 5, 3)
    assert sample.seed == 3 and len(drawn) == 5 and set(drawn.tolist()) < set(ids.tolist())
    assert (select(windows, windows.n_examples, 5, 3)[0] == drawn).all()
    rows = reverse_task(length=4, n_digits=4, val_fraction=0.2).train
    assert target_stride(rows) == 1


@pytest.mark.parametrize(
    ("request_", "code", "key"),
    [(ExamplesRequest(step=3), "not_found", "--step"), (ExamplesRequest("wrong", step=3), "not_found", "--step")],
)
def test_a_step_before_the_first_checkpoint_names_the_kept_ones(
    tmp_path: Path, request_: ExamplesRequest, code: str, key: str
) -> None:
    run = finished(tmp_path / "a")
    with pytest.raises(LabError) as caught:
        examine_examples(run, request_)
    problem = caught.value.problems[0]
    assert (problem.code, problem.key, problem.allowed) == (code, key, "8")


def test_a_run_without_a_checkpoint_has_no_losses(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        examine_examples(recorded(tmp_path / "a"), ExamplesRequest())
    assert caught.value.code == "not_found"


def test_rows_of_a_script_are_sorted_by_loss(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    with pytest.raises(LabError) as caught:
        examine_examples(run, ExamplesRequest())
    assert caught.value.code == "not_found"
    x = np.array([[1, 2, 3], [4, 5, 6]])
    y = np.array([[2, 3, 0], [5, -1, 0]])
    losses = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]], np.float32)
    batch = RecordedBatch(4, 7, 1, "2x3", "2x3", x, y, losses, None, None, None)
    write_batch(run.path, batch)
    report = examine_examples(run, ExamplesRequest())
    assert [each.example.example for each in report.listed] == [1, 0] and report.step == 5
    assert report.listed[0].example.loss == pytest.approx(5.0) and report.loss == pytest.approx(16 / 5)
    assert report.wrong is None and report.listed[0].example.n_wrong is None
    for by in ("wrong", "duplicates"):
        with pytest.raises(LabError) as caught:
            examine_examples(run, ExamplesRequest(as_by(by)))
        assert caught.value.code == "unavailable"


def as_by(name: str) -> By:
    return "wrong" if name == "wrong" else "duplicates"
