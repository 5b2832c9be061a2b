"""`tui-lab explain --rewind`: where the new run begins, and with which settings."""

from pathlib import Path

import pytest

from tests.command_line import CliError, RunCli
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt

OWN_MODEL = """
import torch
class Own(torch.nn.Module):
    def __init__(self, n_vocab, d_model):
        super().__init__()
        self.embedding = torch.nn.Embedding(n_vocab, d_model)
        self.head = torch.nn.Linear(d_model, n_vocab)
    def forward(self, x):
        return self.head(self.embedding(x).cumsum(1))
"""


@pytest.fixture
def run(run_cli: RunCli, tmp_path: Path) -> Run:
    """A run of a model of the user, with checkpoints at steps 2 and 4."""
    (tmp_path / "mine.py").write_text(OWN_MODEL, "utf-8")
    settings = ("model.source=mine.py:Own", "train.batch_size=4", "train.eval_every=0", "train.checkpoint_every=2")
    options = [word for setting in settings for word in ("--set", setting)]
    assert run_cli("run", "reverse", *options, "--steps", 4, "--out", "runs/own", "--quiet").code == 0
    return Run(tmp_path / "runs" / "own")


def fork_of(run: Run) -> Run:
    [fork] = [path for path in run.path.parent.iterdir() if path != run.path]
    return Run(fork)


@pytest.mark.parametrize(("step", "first"), [(4, 3), (2, 1)])
def test_lower_rate_from_the_newest_checkpoint_before_the_step_or_from_the_start(
    step: int, first: int, run: Run, run_cli: RunCli
) -> None:
    assert run_cli("explain", run.path, "--step", step, "--rewind", "lower-lr").code == 0
    fork = fork_of(run)
    old_lr, new_lr = (each.read_checkpoint(4, ckpt.load_progress).config.optim.lr for each in (run, fork))
    assert new_lr == old_lr / 2
    old, new = run.row_log().read(), fork.row_log().read()
    assert new.steps.tolist() == old.steps.tolist() == [1, 2, 3, 4]
    for before, after in zip(old.between(1, 4), new.between(1, 4), strict=True):
        assert before.ids.tolist() == after.ids.tolist(), "the same rows"
        # The first update after the start has the same weights before it; the rate shows in the next one.
        assert (before.sums.tolist() == after.sums.tolist()) == (before.step <= first)


def test_without_a_row_that_stands_out_nothing_is_skipped(run: Run, cli_error: CliError) -> None:
    assert cli_error("explain", run.path, "--step", 3, "--rewind", "skip").code == "not_found"
    assert [path.name for path in run.path.parent.iterdir()] == [run.path.name]
