"""LightningModule with its own rate for the encoder and for the head of a small text classifier."""

import logging
import sys
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*does not have many workers.*")
L.seed_everything(12, verbose=False)
torch.set_num_threads(1)

VOCAB, LENGTH, CLASSES = 60, 16, 12


def make_set(n):
    """The class is given by three tokens that only rows of this class contain; the others are noise."""
    label = torch.randint(0, CLASSES, (n,))
    tokens = torch.randint(3 * CLASSES, VOCAB, (n, LENGTH))
    place = torch.rand(n, LENGTH).argsort(1)[:, :3]
    tokens.scatter_(1, place, 3 * label[:, None] + torch.randint(0, 3, (n, 3)))
    return TensorDataset(tokens, label)


class TextClassifier(L.LightningModule):
    def __init__(self, dim=8):
        super().__init__()
        self.encoder = nn.ModuleDict(
            {"embedding": nn.Embedding(VOCAB, dim), "rnn": nn.GRU(dim, dim, batch_first=True, bidirectional=True)}
        )
        self.pooling = nn.Linear(2 * dim, 1)
        self.classifier = nn.Linear(2 * dim, CLASSES)

    def forward(self, tokens):
        states, _ = self.encoder["rnn"](self.encoder["embedding"](tokens))
        weights = self.pooling(states).softmax(dim=1)
        return self.classifier((weights * states).sum(dim=1))

    def training_step(self, batch, batch_idx):
        tokens, label = batch
        loss = F.cross_entropy(self(tokens), label)
        if self.global_step % 25 == 0:
            print(f"step {self.global_step}: loss {loss.item():.4f}")
        return loss

    def validation_step(self, batch, batch_idx):
        tokens, label = batch
        accuracy = (self(tokens).argmax(1) == label).float().mean()
        print(f"epoch {self.current_epoch}: validation accuracy {accuracy:.3f}")

    def configure_optimizers(self):
        groups = [{"params": self.encoder.parameters(), "lr": 5e-3}]
        head = {"params": [*self.pooling.parameters(), *self.classifier.parameters()], "lr": 2e-2}
        if FIXED:
            groups.append(head)
        return torch.optim.AdamW(groups, weight_decay=0.01)


trainer = L.Trainer(
    max_epochs=3,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    num_sanity_val_steps=0,
)
trainer.fit(
    TextClassifier(),
    DataLoader(make_set(1600), batch_size=32, shuffle=True),
    DataLoader(make_set(400), batch_size=400),
)
