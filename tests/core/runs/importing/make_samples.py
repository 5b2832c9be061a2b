"""Write samples/ with the libraries that write such logs in practice; run by hand where they are installed.

    python tests/core/runs/importing/make_samples.py tensorboard|lightning|huggingface|keras

Each trains or logs something tiny. The losses are part of the samples, so the tests compare with what is in the files.
Written with torch 2.14 (SummaryWriter), lightning 2.6, transformers 5.24 and keras 3 (torch backend).
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).resolve().parent / "samples"


def tensorboard() -> None:
    """Two runs in one folder; the second has a loss that is not a number, and a histogram."""
    import torch
    from torch.utils.tensorboard import SummaryWriter

    for name, rate in (("small", 0.1), ("large", 0.5)):
        folder = SAMPLES / "tensorboard" / name
        shutil.rmtree(folder, ignore_errors=True)
        writer = SummaryWriter(str(folder))
        for step in range(1, 13):
            loss = float("nan") if name == "large" and step == 12 else 2.0 / (1 + rate * step)
            writer.add_scalar("Loss/train", loss, step, walltime=1.7e9 + step)
            writer.add_scalar("lr", rate, step, walltime=1.7e9 + step)
            if step % 4 == 0:
                writer.add_scalar("Loss/val", loss + 0.25, step, walltime=1.7e9 + step + 0.5)
        if name == "large":
            writer.add_histogram("weights", torch.arange(64.0), 12)
        writer.close()
        for file in folder.iterdir():
            file.rename(folder / "events.out.tfevents.writer")  # Its name has that of the machine.


def lightning() -> None:
    """The metrics.csv of Lightning's CSVLogger, with its monitor of the learning rate."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger
    from torch.utils.data import DataLoader, TensorDataset

    class Line(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def loss(self, batch: Any) -> Any:
            x, y = batch
            return torch.nn.functional.mse_loss(self.layer(x), y)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.loss(batch)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.05)

    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    data = DataLoader(TensorDataset(x, 3 * x + 1), batch_size=16)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=3,
            log_every_n_steps=2,
            logger=CSVLogger(folder),
            enable_checkpointing=False,
            callbacks=[LearningRateMonitor("step")],
            accelerator="cpu",
            enable_progress_bar=False,
        )
        trainer.fit(Line(), data, data)
        (SAMPLES / "lightning").mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "lightning_logs/version_0/metrics.csv", SAMPLES / "lightning/metrics.csv")


def huggingface() -> None:
    """The trainer_state.json and the event file of transformers' Trainer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.manual_seed(0)
    rows = [{"input_ids": torch.arange(i, i + 16) % 32, "labels": torch.arange(i, i + 16) % 32} for i in range(64)]
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    with tempfile.TemporaryDirectory() as folder:
        # The event file contains the names of the folders.
        os.chdir(folder)
        os.environ["TENSORBOARD_LOGGING_DIR"] = "logs"
        arguments = TrainingArguments(
            output_dir="trained",
            max_steps=20,
            per_device_train_batch_size=8,
            logging_steps=2,
            eval_strategy="steps",
            eval_steps=5,
            save_steps=20,
            report_to=["tensorboard"],
            use_cpu=True,
            learning_rate=1e-2,
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:16])
        trainer.train()
        trainer.save_state()
        target = SAMPLES / "huggingface"
        shutil.rmtree(target, ignore_errors=True)
        (target / "logs").mkdir(parents=True)
        shutil.copy("trained/trainer_state.json", target)
        for file in Path("logs").rglob("*tfevents*"):
            shutil.copy(file, target / "logs" / "events.out.tfevents.trainer")


def keras() -> None:
    """The CSV of Keras' CSVLogger."""
    os.environ["KERAS_BACKEND"] = "torch"
    import numpy as np
    from keras import Sequential, layers, utils
    from keras.callbacks import CSVLogger

    utils.set_random_seed(0)
    x = np.linspace(-1, 1, 64)[:, None]
    model = Sequential([layers.Input((1,)), layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"], optimizer="adam")
    (SAMPLES / "keras").mkdir(parents=True, exist_ok=True)
    log = CSVLogger(SAMPLES / "keras/training.csv")
    model.fit(x, 3 * x + 1, validation_split=0.25, epochs=5, verbose=0, callbacks=[log])


if __name__ == "__main__":
    {"tensorboard": tensorboard, "lightning": lightning, "huggingface": huggingface, "keras": keras}[sys.argv[1]]()
