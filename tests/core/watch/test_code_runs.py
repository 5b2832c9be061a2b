"""Several runs in one process, as in a notebook: another training is another run, and each ends as its code did."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import tui_lab
from tests.core.watch.loops import plain, start
from tests.core.watch.test_recorder import train
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs.code import read_code, read_source
from tui_lab.core.runs.code_diff import diff_code
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.api import WatchedRun
from tui_lab.core.watch.code_run import CodeRun
from tui_lab.core.watch.recording import Recording
from tui_lab.core.watch.steering.steering import StopRequested
from tui_lab.util.errors import RunError

LR = 0.125
Training = tuple[nn.Module, torch.optim.Optimizer]


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    yield
    if Recording.active is not None:
        Recording.active.end()


@pytest.fixture
def history() -> list[str]:
    """The cells of a notebook that have been executed."""
    return [""]


@pytest.fixture
def end_cell(monkeypatch: pytest.MonkeyPatch, history: list[str]) -> Callable[[BaseException | None], None]:
    """Ends a cell of a notebook, with an error or without one."""
    callbacks: list[Callable[[Any], None]] = []
    events = SimpleNamespace(
        register=lambda name, callback: callbacks.append(callback),
        unregister=lambda name, callback: callbacks.remove(callback),
    )
    history_manager = SimpleNamespace(input_hist_raw=history)
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(events=events, history_manager=history_manager))
    monkeypatch.setattr("tui_lab.core.watch.code.code_recorder._main_file", lambda: None)
    monkeypatch.setitem(sys.modules, "IPython", ipython)

    def end(error: BaseException | None) -> None:
        for callback in callbacks:
            callback(SimpleNamespace(error_in_exec=error))

    return end


class UnequalRows(torch.utils.data.Dataset[torch.Tensor]):
    """Rows that make no batch."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.zeros(i)


@contextlib.contextmanager
def failing(model: nn.Module, error: BaseException) -> Iterator[None]:
    """The model raises `error` in the block."""

    def fail(*_: object) -> None:
        raise error

    handle = model.register_forward_pre_hook(fail)
    yield
    handle.remove()


def new_training() -> Training:
    model = start()
    return model, torch.optim.SGD(model.parameters(), lr=LR)


def events_of(run: WatchedRun) -> list[ev.Event]:
    assert run.path is not None
    return list(Run(run.path).events())


def losses_and_rates(run: WatchedRun) -> list[tuple[float, float]]:
    return [(event.loss, event.lr) for event in events_of(run) if isinstance(event, ev.StepDone)]


def end_of(run: WatchedRun) -> str:
    last = events_of(run)[-1]
    assert isinstance(last, ev.Stopped | ev.Failed)
    return last.reason if isinstance(last, ev.Stopped) else "failed"


def ask(*commands: cmd.Command) -> None:
    assert Recording.active is not None
    for command in commands:
        Recording.active.boundary.control.commands.put(command)


def test_another_model_begins_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    first_training, second_training = new_training(), new_training()
    first = tui_lab.watch(*first_training, name="first")
    train(*first_training, range(2))
    second = tui_lab.watch(*second_training, name="second", config={"size": 3})
    assert first.path is not None and second.path is not None
    assert second.path.name.startswith("second-") and str(first.path.name) in capsys.readouterr().err
    train(*second_training, range(3))
    second.close()
    assert (len(losses_and_rates(first)), len(losses_and_rates(second))) == (2, 3)
    assert Run(second.path).config().settings == {"size": 3}  # type: ignore[union-attr]
    assert Recording.active is None


@pytest.mark.parametrize("other", ["optimizer", "name", "out"])
def test_another_optimizer_name_or_folder_begins_another_run(other: str, tmp_path: Path) -> None:
    model, optimizer = new_training()
    first = tui_lab.watch(model, optimizer, name="a", out=tmp_path / "a")
    train(model, optimizer, range(2))
    others: dict[str, Any] = {
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.5),
        "name": "b",
        "out": tmp_path / "b",
    }
    second = tui_lab.watch(**{"model": model, "optimizer": optimizer, "name": "a", other: others[other]})
    assert second.path != first.path and end_of(first) == "done"


@pytest.mark.parametrize("is_compiled", [False, True])
def test_same_training_is_the_same_run_which_any_of_its_objects_closes(is_compiled: bool) -> None:
    model, optimizer = new_training()
    first = tui_lab.watch(model, optimizer, name="a")
    train(model, optimizer, range(2))
    same_model: Any = torch.compile(model, backend="eager") if is_compiled else model
    again = tui_lab.watch(same_model, [optimizer], name="a")
    train(model, optimizer, range(2, 3))
    again.close()
    train(model, optimizer, range(3, 5))
    assert again.path == first.path and len(losses_and_rates(first)) == 3


def test_model_that_is_given_before_the_first_step_belongs_to_the_run() -> None:
    first = tui_lab.watch()
    model, optimizer = new_training()
    assert tui_lab.watch(model, optimizer).path == first.path


def test_training_after_one_that_was_found_is_another_run() -> None:
    first = tui_lab.watch()
    plain(2)
    model, optimizer = new_training()
    assert tui_lab.watch(model).path != first.path


def test_folder_that_is_taken_leaves_the_present_run(tmp_path: Path) -> None:
    first = tui_lab.watch(out=tmp_path / "a")
    first.close()
    second = tui_lab.watch(out=tmp_path / "b")
    with pytest.raises(RunError):
        tui_lab.watch(out=tmp_path / "a")
    assert second.path is not None and "recording" in repr(second)


def test_changes_and_pauses_of_a_run_do_not_reach_the_next() -> None:
    model, optimizer = new_training()
    first = tui_lab.watch(model, optimizer)
    ask(cmd.Scale("optim.lr_factor", 2.0), cmd.Set("optim.grad_clip", 1e-9), cmd.Set("model.dropout", 0.5))
    train(model, optimizer, range(3))
    ask(cmd.Pause())
    other, other_optimizer = new_training()
    second = tui_lab.watch(other, other_optimizer)
    train(other, other_optimizer, range(3))
    second.close()
    assert losses_and_rates(first)[-1][1] == 2 * LR
    assert [lr for _, lr in losses_and_rates(second)] == [LR] * 3
    assert not [event for event in events_of(second) if isinstance(event, ev.Paused | ev.Changed)]
    assert [m.p for module in (model, other) for m in module.modules() if isinstance(m, nn.Dropout)] == [0.25] * 2


def test_stop_reaches_only_the_run_in_which_it_was_asked() -> None:
    model, optimizer = new_training()
    first = tui_lab.watch(model, optimizer)
    ask(cmd.Stop())
    with pytest.raises(StopRequested):
        train(model, optimizer, range(3))
    other, other_optimizer = new_training()
    with tui_lab.watch(other, other_optimizer) as second:
        train(other, other_optimizer, range(3))
    assert (end_of(first), end_of(second), len(losses_and_rates(second))) == ("stopped", "done", 3)


@pytest.mark.parametrize(
    ("error", "end"), [(KeyboardInterrupt(), "stopped"), (ValueError("shape"), "failed"), (None, "done")]
)
def test_run_that_a_cell_leaves_open_ends_as_the_cell_did(
    error: BaseException | None, end: str, end_cell: Callable[[BaseException | None], None]
) -> None:
    model, optimizer = new_training()
    first = tui_lab.watch(model, optimizer)
    train(model, optimizer, range(2))
    end_cell(error)
    end_cell(NameError("in a cell that does not train"))
    tui_lab.watch(*new_training())
    assert end_of(first) == end


def cells_of(run: WatchedRun) -> dict[str, str]:
    assert run.path is not None
    code = read_code(run.path)
    return {} if code is None else {file.path: read_source(run.path, file) or "" for file in code.files}


def test_cells_of_a_run_are_kept(end_cell: Callable[[BaseException | None], None], history: list[str]) -> None:
    history += ["import torch", "lr = 1", "lr = 1", "run = watch()\n"]
    run = tui_lab.watch(*(training := new_training()))
    train(*training, range(2))
    end_cell(None)
    history.append("lr = 2")
    end_cell(None)
    history.append("train(run)")
    train(*training, range(2, 4))
    end_cell(None)
    history.append("run = watch(another)")  # Not of this run, which it ends.
    other = tui_lab.watch(*new_training())
    assert cells_of(run) == {
        "notebook-cells.py": "# %%\nrun = watch()\n# %%\nlr = 2\n# %%\ntrain(run)\n",
        "notebook-cells-before.py": "# %%\nimport torch\n# %%\nlr = 1\n",
    }
    other.close()
    assert cells_of(other)["notebook-cells.py"] == "# %%\nrun = watch(another)\n"
    assert run.path is not None and other.path is not None
    diff = diff_code(("a", run.path), ("b", other.path))
    assert {file.path for file in diff.files} == {"notebook-cells.py", "notebook-cells-before.py"}


@pytest.mark.usefixtures("end_cell")
def test_cells_are_not_kept_if_the_user_does_not_want_it(history: list[str]) -> None:
    history.append("secret")
    run = tui_lab.watch(code=False)
    plain(2)
    run.close()
    assert cells_of(run) == {}


@pytest.mark.usefixtures("end_cell")
def test_long_sessions_keep_the_last_cells(history: list[str]) -> None:
    history += [f"x = '{'a' * 100_000}{i}'" for i in range(5)] + ["run"]
    run = tui_lab.watch()
    plain(2)
    run.close()
    assert run.path is not None and (code := read_code(run.path)) is not None
    assert [cell[-3:] for cell in cells_of(run)["notebook-cells-before.py"].split("# %%\n")[1:]] == ["3'\n", "4'\n"]
    assert [left.path for left in code.left_out] == ["first cells of notebook-cells-before.py"]


def test_stop_of_a_cell_ends_its_run(end_cell: Callable[[BaseException | None], None]) -> None:
    model, optimizer = new_training()
    run = tui_lab.watch(model, optimizer)
    ask(cmd.Stop())
    with pytest.raises(StopRequested) as stopped:
        train(model, optimizer, range(3))
    end_cell(stopped.value)
    assert Recording.active is None and end_of(run) == "stopped"


def test_error_of_a_cell_is_forgotten_when_the_training_goes_on(
    end_cell: Callable[[BaseException | None], None],
) -> None:
    model, optimizer = new_training()
    run = tui_lab.watch(model, optimizer)
    train(model, optimizer, range(2))
    end_cell(KeyboardInterrupt())
    train(model, optimizer, range(2, 4))
    run.close()
    assert end_of(run) == "done"


def test_cell_that_names_a_run_again_after_an_error_begins_another(
    end_cell: Callable[[BaseException | None], None],
) -> None:
    first = tui_lab.watch(name="by-hand")
    first.step(loss=1.0)
    end_cell(KeyboardInterrupt())
    assert tui_lab.watch().path == first.path
    assert tui_lab.watch(name="by-hand").path != first.path


def test_script_that_an_error_ends_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tui_lab.watch()
    plain(2)
    assert CodeRun.active is not None
    monkeypatch.setattr(sys, "last_value", ValueError("of the script"), raising=False)
    CodeRun.active.end_left_open()
    assert end_of(run) == "failed"


@pytest.mark.parametrize(
    ("error", "end"), [(ValueError("shape"), "failed"), (KeyboardInterrupt(), "stopped"), (StopIteration(), "done")]
)
def test_run_that_is_left_open_ends_with_the_error_that_the_code_has_caught(error: BaseException, end: str) -> None:
    model, optimizer = new_training()
    run = tui_lab.watch(model, optimizer)
    train(model, optimizer, range(2))
    with failing(model, error), contextlib.suppress(BaseException):
        train(model, optimizer, range(2, 4))
    tui_lab.watch(*new_training())
    assert (end_of(run), len(losses_and_rates(run))) == (end, 2)


@pytest.mark.parametrize("closes", [False, True])
def test_error_after_which_the_code_trains_or_closes_the_run_is_not_its_end(*, closes: bool) -> None:
    model, optimizer = new_training()
    run = tui_lab.watch(model, optimizer)
    train(model, optimizer, range(2))
    with failing(model, MemoryError()), contextlib.suppress(MemoryError):
        train(model, optimizer, range(2, 3))
    if closes:
        run.close()
    else:
        train(model, optimizer, range(2, 3))
    tui_lab.watch(*new_training())
    assert end_of(run) == "done"


@pytest.mark.parametrize("place", ["loss", "backward", "loader"])
def test_errors_are_seen_wherever_a_step_may_fail(place: str) -> None:
    model, optimizer = new_training()
    run = tui_lab.watch(model, optimizer)
    train(model, optimizer, range(2))
    with contextlib.suppress(RuntimeError, IndexError, ValueError):
        if place == "loss":
            torch.nn.functional.cross_entropy(torch.zeros(3, 2, requires_grad=True), torch.zeros(4).long())
        elif place == "backward":
            torch.zeros(1).sum().backward()  # type: ignore[no-untyped-call]
        else:
            next(iter(torch.utils.data.DataLoader(UnequalRows(), batch_size=2)))
    tui_lab.watch(*new_training())
    assert end_of(run) == "failed"


def test_close_records_the_error_for_which_the_code_cleans_up() -> None:
    run = tui_lab.watch()
    with pytest.raises(ValueError, match="shape"):
        try:
            plain(2)
            raise ValueError("shape")
        finally:
            run.close()
    assert end_of(run) == "failed"


def test_training_that_handles_an_earlier_error_has_not_failed() -> None:
    """As a script does that tries a smaller batch when memory was short."""
    try:
        raise MemoryError
    except MemoryError:
        run = tui_lab.watch()
        plain(2)
        run.close()
    assert end_of(run) == "done"


def test_object_shows_the_folder_and_the_state(capsys: pytest.CaptureFixture[str]) -> None:
    run = tui_lab.watch(name="mine")
    assert "recording" in repr(run)
    [line] = capsys.readouterr().err.splitlines()
    assert run.path is not None and f"tui-lab app runs/{run.path.name}" in line
    plain(2)
    run.close()
    assert str(run.path) in repr(run) and "done" in repr(run)


def test_what_is_logged_after_the_end_is_a_warning() -> None:
    run = tui_lab.watch()
    plain(1)
    run.close()
    with pytest.warns(UserWarning):
        run.log(accuracy=1.0)
    with pytest.warns(UserWarning):
        run.step(loss=1.0)
    assert len(losses_and_rates(run)) == 1


def test_under_the_command_another_training_is_a_warning_in_the_one_run(tmp_path: Path) -> None:
    recording = Recording.start("test", ["test.py"], tmp_path / "run")
    for name in ("first", "second"):
        model, optimizer = new_training()
        run = tui_lab.watch(model, optimizer, name=name)
        assert run.path == recording.run.path
        train(model, optimizer, range(2))
        run.close()
    recording.end()
    events = list(recording.run.events())
    assert [event.step for event in events if isinstance(event, ev.StepDone)] == [1, 2, 3, 4]
    assert len([event for event in events if isinstance(event, ev.Warned)]) == 1
