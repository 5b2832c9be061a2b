"""LightningCallback, with the real library on a tiny model."""

import sys
import warnings
from typing import Any

import pytest
import torch

import tui_lab
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import ConfigError


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tui_lab.core.watch.lightning", raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(ConfigError, match=r"tui-lab\[lightning\]") as caught:
        from tui_lab import LightningCallback  # noqa: F401
    assert caught.value.code == "unavailable"


@pytest.fixture(scope="module")
def lightning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lightning.pytorch", reason="lightning is not installed; `make install` installs it")


def train(lightning: Any, callbacks: list[Any]) -> tuple[Any, list[float]]:
    """Train for 12 steps of two micro-batches, evaluated after 6 and 12; return the Trainer and the losses."""
    losses: list[float] = []

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int = 8) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layers = torch.nn.Sequential(torch.nn.Embedding(11, width), torch.nn.Linear(width, 11))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.layers(x)
            return logits

        def loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self(batch[0]).flatten(0, 1), batch[1].flatten())

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            loss = self.loss(batch)
            losses.append(loss.item())
            return loss

        def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(3)
    x = torch.randint(0, 11, (48, 6))
    data = torch.utils.data.TensorDataset(x, x.roll(-1, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns of few data workers, and of a short epoch.
        trainer = lightning.Trainer(
            max_steps=12,
            accumulate_grad_batches=2,
            val_check_interval=12,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        trainer.fit(Module(), loader, torch.utils.data.DataLoader(data, batch_size=24))
    return trainer, losses


def test_trainer_is_recorded_and_not_changed(lightning: Any) -> None:
    from tui_lab import LightningCallback

    plain, _ = train(lightning, [])
    watched, losses = train(lightning, [LightningCallback(name="tiny")])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    (run,) = runs.list_runs()
    config = run.config()
    assert isinstance(config, ScriptConfig) and config.train.steps == 12
    assert config.settings["accumulate_grad_batches"] == 2 and config.settings["width"] == 8
    events = list(run.events())
    steps = [event for event in events if isinstance(event, ev.StepDone)]
    means = [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)]
    assert [step.loss for step in steps] == pytest.approx(means, rel=1e-6)
    evaluated = [event.val_loss for event in events if isinstance(event, ev.Evaluated)]
    assert len(evaluated) == 2
    assert evaluated[-1] == pytest.approx(float(watched.callback_metrics["val_loss"]), rel=1e-6)
    assert isinstance(events[-1], ev.Stopped) and events[-1].reason == "done"


def test_callback_without_a_name_begins_a_run_of_its_own(lightning: Any) -> None:
    """A notebook may have left the run of another training open."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = tui_lab.watch(name="first")
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    train(lightning, [tui_lab.LightningCallback()])
    train(lightning, [tui_lab.LightningCallback()])
    assert first.path is not None
    steps = [len([e for e in run.events() if isinstance(e, ev.StepDone)]) for run in runs.list_runs()]
    assert sorted(steps) == [1, 12, 12]
    assert "done" in repr(first)


def test_callback_leaves_the_run_of_the_code_around_it_open(lightning: Any) -> None:
    with tui_lab.watch(name="around") as around:
        train(lightning, [tui_lab.LightningCallback()])
        around.log(accuracy=0.5)
    (run,) = runs.list_runs()
    assert run.path == around.path
    events = list(run.events())
    assert isinstance(events[-1], ev.Stopped)
    assert [event.values for event in events if isinstance(event, ev.Logged)] == [{"accuracy": 0.5}]
