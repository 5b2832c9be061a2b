"""CSV files as runs: those of two libraries, of wandb in its shapes, and broken ones."""

import csv
import math
from pathlib import Path

import pytest

from tests.core.runs.importing.reading import SAMPLES, evaluations, events, logged, sources, steps, written
from tui_lab.core.runs.importing.csv_file import read_csv
from tui_lab.core.runs.importing.events import events_of
from tui_lab.util.errors import ConfigError, DataError


def test_metrics_of_lightning() -> None:
    """Its rows have the learning rate, train loss and validation loss of a step one after the other."""
    path = SAMPLES / "lightning" / "metrics.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    found = events(path)
    assert [step.loss for step in steps(found)] == [float(r["train_loss_step"]) for r in rows if r["train_loss_step"]]
    assert [step.lr for step in steps(found)] == [float(row["lr-AdamW"]) for row in rows if row["lr-AdamW"]]
    assert [one.val_loss for one in evaluations(found)] == [float(row["val_loss"]) for row in rows if row["val_loss"]]
    assert [step.step for step in steps(found)] == sorted({int(row["step"]) for row in rows})


def test_log_of_keras_counts_epochs() -> None:
    [source] = sources(SAMPLES / "keras" / "training.csv")
    found = list(events_of(source))
    assert [step.step for step in steps(found)] == [one.step for one in evaluations(found)] == [0, 1, 2, 3, 4]
    assert source.name == "keras" and len(source.notes) == 1
    assert steps(found)[0].extra == {"mae": 1.338309645652771}
    assert logged(found)[0].values == {"val_mae": 3.669398307800293}


def test_history_of_wandb(tmp_path: Path) -> None:
    """As `run.history().to_csv()` writes it: the index of pandas, and columns of wandb itself."""
    text = (
        ",_step,_runtime,_timestamp,train/loss,train/global_step,eval/loss\n"
        "0,0,1.5,1700000001.5,2.5,10,\n1,1,2.5,1700000002.5,,10,2.25\n2,2,4.5,1700000004.5,2.0,20,\n"
    )
    found = events(written(tmp_path / "w.csv", text))
    assert [(step.step, step.loss, step.seconds) for step in steps(found)] == [(10, 2.5, 0.0), (20, 2.0, 2.0)]
    assert [(one.step, one.val_loss) for one in evaluations(found)] == [(10, 2.25)]


def test_panel_of_wandb_has_several_runs(tmp_path: Path) -> None:
    text = (
        '"Step","a - b - train/loss","a - b - train/loss__MIN","a - b - train/loss__MAX","c - train/loss"\n'
        '"0","2.5","2.5","2.5",""\n"5","2.0","2.0","2.0","1.5"\n'
    )
    by_name = {source.name: steps(list(events_of(source))) for source in sources(written(tmp_path / "p.csv", text))}
    assert {name: [(one.step, one.loss) for one in of_run] for name, of_run in by_name.items()} == {
        "a - b": [(0, 2.5), (5, 2.0)],
        "c": [(5, 1.5)],
    }


@pytest.mark.parametrize(
    "header",
    [
        "Name,State,Runtime,loss",
        "Name,State,Notes,User,Tags,Created,Runtime,Sweep,epochs,lr,loss,val_loss",
        "Name,Agent,State,Created,_step,train/loss",
    ],
)
@pytest.mark.parametrize("number_rows", [False, True])
def test_table_of_runs_of_wandb_is_refused(tmp_path: Path, header: str, number_rows: bool) -> None:
    """Its lines are runs, not steps: also where it has a column that is a step in other files."""
    line = ",".join("0.5" for _ in header.split(","))
    path = written(tmp_path / "runs.csv", f"{header}\n{line}\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_csv(path, {}, number_rows=number_rows)
    [problem] = caught.value.problems
    assert (problem.code, problem.key) == ("invalid", str(path)) and "table of runs" in problem.message


def test_columns_called_name_and_state_are_no_table_of_runs(tmp_path: Path) -> None:
    found = events(written(tmp_path / "l.csv", "step,Name,State,loss\n1,a,warmup,2.0\n2,a,decay,1.5\n"))
    assert [step.loss for step in steps(found)] == [2.0, 1.5]


def test_values_that_are_not_finite_are_kept_and_empty_cells_are_not_values(tmp_path: Path) -> None:
    found = events(written(tmp_path / "l.csv", "step;loss;lr\n1;2.0;\n2;nan;0.1\n3;-inf;0.1\n4;;0.1\n"))
    assert [step.step for step in steps(found)] == [1, 2, 3]
    assert math.isnan(steps(found)[1].loss) and steps(found)[2].loss == -math.inf
    assert math.isnan(steps(found)[0].lr) and logged(found)[-1].values == {"lr": 0.1}


def test_columns_that_the_user_names_count_first(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "n,loss,nll,heldout\n1,9,2.0,3.0\n2,9,1.0,2.5\n")
    found = events(path, step="n", train_loss="nll", val_loss="heldout")
    assert [(step.step, step.loss, step.extra) for step in steps(found)] == [
        (1, 2.0, {"loss": 9.0}),
        (2, 1.0, {"loss": 9.0}),
    ]
    assert [one.best for one in evaluations(found)] == [True, True]


def test_rows_are_counted_where_there_is_no_step(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "iter,loss\n1,2.0\n2,1.5\n1,1.0\n2,0.5\n")
    with pytest.raises(DataError) as caught:
        events(path)
    assert (caught.value.code, caught.value.problems[0].key) == ("invalid", "iter")
    assert [step.step for step in steps(events(path, number_rows=True))] == [1, 2, 3, 4]
    assert [step.step for step in steps(events(written(tmp_path / "m.csv", "loss\n2.0\n1.5\n")))] == [1, 2]


@pytest.mark.parametrize("name", ["it", "n_iter", "global_it", "train/itr"])
def test_less_certain_names_of_a_step_count_if_their_numbers_increase(tmp_path: Path, name: str) -> None:
    known = name != "train/itr"
    [source] = sources(written(tmp_path / "l.csv", f"{name},epoch,loss\n5,0,2.0\n10,1,1.5\n"))
    assert source.columns["step"] == (name if known else "epoch")
    [repeated] = sources(written(tmp_path / "m.csv", f"{name},epoch,loss\n1,0,2.0\n1,1,1.5\n"))
    assert repeated.columns["step"] == "epoch"


def test_a_column_that_looks_like_the_step_is_named(tmp_path: Path) -> None:
    [source] = sources(written(tmp_path / "l.csv", "nr,loss,n,gap\n10,2,1,1\n20,1,1,\n"))
    assert [step.step for step in steps(list(events_of(source)))] == [1, 2]
    [note] = source.notes
    assert "--column step=nr" in note
    [plain] = sources(written(tmp_path / "m.csv", "loss,n\n2.5,1\n1,1\n"))
    assert "--column" not in plain.notes[0]


@pytest.mark.parametrize(
    ("text", "code", "key", "suggestion"),
    [
        ("", "missing", None, ""),
        ("step,perplexity,trian_los\n1,2,3\n", "missing", "train_loss", "trian_los"),
        ("step,nll,lr\n1,2,3\n", "missing", "train_loss", "nll"),
        ("step,loss\n1,high\n", "wrong_type", "loss", ""),
        ("step,loss\n0.5,1\n", "wrong_type", "step", ""),
        ("step,loss\n-1,1\n", "wrong_type", "step", ""),
        ("step,loss\nnan,1\n", "wrong_type", "step", ""),
        ("step,loss\n3,1\n2,1\n", "invalid", "step", ""),
        ("step,loss\n3,1\n3,2\n", "invalid", "step", ""),
        ("step,loss\n3,\n4,\n", "missing", None, ""),
        ("step,loss,tokens\n3,1,-5\n", "invalid", "tokens", ""),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path: Path, text: str, code: str, key: str | None, suggestion: str) -> None:
    path = written(tmp_path / "l.csv", text)
    with pytest.raises(DataError) as caught:
        events(path)
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.suggestion) == (code, key or str(path), suggestion)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"step,loss\n1,\xff\xfe\n")
    with pytest.raises(DataError) as caught:
        read_csv(tmp_path / "l.csv", {}, number_rows=False)
    assert caught.value.code == "damaged"


@pytest.mark.parametrize(
    ("columns", "key", "suggestion"),
    [({"trainloss": "loss"}, "--column", "train_loss"), ({"train_loss": "los"}, "--column train_loss", "loss")],
)
def test_wrong_names_have_the_nearest_one(tmp_path: Path, columns: dict[str, str], key: str, suggestion: str) -> None:
    path = written(tmp_path / "l.csv", "step,loss\n1,2\n")
    with pytest.raises(ConfigError) as caught:
        read_csv(path, columns, number_rows=False)
    assert (caught.value.problems[0].key, caught.value.problems[0].suggestion) == (key, suggestion)
