"""HuggingFaceCallback, with the real library on a tiny model."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import ConfigError


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tui_lab.core.watch.huggingface", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"tui-lab\[huggingface\]") as caught:
        from tui_lab import HuggingFaceCallback  # noqa: F401
    assert caught.value.code == "unavailable"


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed; `make peers` installs it")


def train(transformers: Any, folder: Path, callbacks: list[Any]) -> Any:
    """Train a GPT-2 with two layers for 12 steps, evaluated after 6 and 12; return the Trainer."""
    pytest.importorskip("accelerate", reason="accelerate is not installed; `make peers` installs it")
    transformers.set_seed(3)
    config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    ids = torch.arange(48)[:, None].add(torch.arange(8)).remainder(11)
    rows = [{"input_ids": row, "labels": row} for row in ids]
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=12,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=6,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    model = transformers.GPT2LMHeadModel(config)
    trainer = transformers.Trainer(
        model, arguments, train_dataset=rows, eval_dataset=rows[:8], callbacks=copy.copy(callbacks)
    )
    trainer.train()
    return trainer


def test_trainer_is_recorded_and_not_changed(transformers: Any, tmp_path: Path) -> None:
    from tui_lab import HuggingFaceCallback

    plain = train(transformers, tmp_path / "plain", [])
    watched = train(transformers, tmp_path / "watched", [HuggingFaceCallback(name="tiny-gpt2")])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    (run,) = runs.list_runs()
    config = run.config()
    assert isinstance(config, ScriptConfig) and config.train.steps == 12
    assert config.settings["per_device_train_batch_size"] == 4
    events = list(run.events())
    steps = [event for event in events if isinstance(event, ev.StepDone)]
    logged = [entry for entry in watched.state.log_history if "loss" in entry]
    assert [step.loss for step in steps] == pytest.approx([entry["loss"] for entry in logged], rel=1e-6)
    evaluated = [event.val_loss for event in events if isinstance(event, ev.Evaluated)]
    assert evaluated == pytest.approx([e["eval_loss"] for e in watched.state.log_history if "eval_loss" in e])
    assert isinstance(events[-1], ev.Stopped) and events[-1].reason == "done"
