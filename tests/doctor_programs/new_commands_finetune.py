"""Pretrain a small language model on commands, then add new words and fine-tune on the new commands."""

import random
import sys

import torch
from torch import nn

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

WORDS = "<end> please now open close lock check the a red green front back door window gate".split()
NEW_WORDS = "<query> <reply> garage shutter done denied".split()


def old_command():
    return [
        *random.choice([["please"], ["now"]]),
        random.choice(["open", "close", "lock", "check"]),
        random.choice(["the", "a"]),
        random.choice(["red", "green", "front", "back"]),
        random.choice(["door", "window", "gate"]),
        "<end>",
    ]


def new_command():
    verb = random.choice(["open", "close"])
    answer = "done" if verb == "open" else "denied"
    return ["<query>", verb, "the", random.choice(["garage", "shutter"]), "<reply>", answer, "<end>"]


class CommandModel(nn.Module):
    def __init__(self, vocab_size, width=64):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.gru = nn.GRU(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, vocab_size)

    def forward(self, tokens):
        return self.head(self.gru(self.embedding(tokens))[0])

    def resize_vocabulary(self, vocab_size):
        """Make the embedding and the head larger and keep the weights of the old words."""
        old_embedding, old_head = self.embedding, self.head
        self.embedding = nn.Embedding(vocab_size, old_embedding.embedding_dim)
        self.head = nn.Linear(old_head.in_features, vocab_size)
        with torch.no_grad():
            self.embedding.weight[: old_embedding.num_embeddings] = old_embedding.weight
            self.head.weight[: old_head.out_features] = old_head.weight
            self.head.bias[: old_head.out_features] = old_head.bias


def train(model, optimizer, make_command, vocabulary, steps, name):
    to_id = {word: i for i, word in enumerate(vocabulary)}
    for step in range(steps):
        stream = [[to_id[word] for _ in range(4) for word in make_command()][:24] for _ in range(16)]
        tokens = torch.tensor(stream)
        logits = model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"{name} step {step}: loss {loss.item():.3f}")


model = CommandModel(len(WORDS))
pretraining = torch.optim.AdamW(model.parameters(), lr=3e-3)
train(model, pretraining, old_command, WORDS, 120, "pretraining")

if FIXED:
    model.resize_vocabulary(len(WORDS + NEW_WORDS))
    finetuning = torch.optim.AdamW(model.parameters(), lr=1e-3)
else:
    finetuning = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.resize_vocabulary(len(WORDS + NEW_WORDS))
train(model, finetuning, new_command, WORDS + NEW_WORDS, 140, "fine-tuning")
