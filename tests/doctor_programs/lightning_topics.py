"""Classify short notes by topic with a GRU in Lightning."""

import logging
import random
import sys
import warnings

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
lightning.seed_everything(0, verbose=False)
torch.set_num_threads(1)

VOCABULARY = 100
LENGTH = 12
TOPICS = 4
WARMUP_STEPS = 60


def make_notes(count):
    notes, topics = [], []
    for _ in range(count):
        topic = random.randrange(TOPICS)
        words = [random.randrange(60, VOCABULARY) for _ in range(LENGTH)]
        for position in random.sample(range(LENGTH), 3):
            words[position] = topic * 15 + random.randrange(15)
        notes.append(words)
        topics.append(topic)
    return TensorDataset(torch.tensor(notes), torch.tensor(topics))


class TopicModel(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 32)
        self.gru = nn.GRU(32, 48, batch_first=True)
        self.head = nn.Linear(48, TOPICS)

    def forward(self, notes):
        states, _ = self.gru(self.embed(notes))
        return self.head(states.mean(1))

    def training_step(self, batch, batch_index):
        notes, topics = batch
        loss = nn.functional.cross_entropy(self(notes), topics)
        if self.global_step % 30 == 0:
            print(f"step {self.global_step:4d}  loss {loss.item():.3f}")
        return loss

    def validation_step(self, batch, batch_index):
        notes, topics = batch
        accuracy = (self(notes).argmax(1) == topics).float().mean()
        self.log("val_accuracy", accuracy, prog_bar=False)

    def on_validation_epoch_end(self):
        accuracy = self.trainer.callback_metrics["val_accuracy"]
        print(f"epoch {self.current_epoch}  validation accuracy {accuracy:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS))
        if FIXED:
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}


random.seed(0)
train_loader = DataLoader(make_notes(1600), batch_size=32, shuffle=True)
val_loader = DataLoader(make_notes(400), batch_size=100)
trainer = lightning.Trainer(
    max_epochs=6,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    num_sanity_val_steps=0,
)
trainer.fit(TopicModel(), train_loader, val_loader)
