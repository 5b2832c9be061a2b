"""Classify reviews with a small transformer encoder, with warmup and cosine decay of the learning rate."""

import math
import random
import sys

import torch
from torch import nn

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

GOOD = "great lovely superb charming brilliant".split()
BAD = "dull awful boring messy weak".split()
NEUTRAL = "the film actor story music scene was with and a very long short new old".split()
VOCABULARY = ["[cls]", "not", *GOOD, *BAD, *NEUTRAL]
LENGTH = 14
PEAK_LR = 2e-3
WARMUP = 20
STEPS = 240


def learning_rate(step):
    """Return the learning rate of a step: linear warmup, then cosine decay."""
    if step < WARMUP:
        return PEAK_LR * (step + 1) / WARMUP
    progress = (step - WARMUP) / (STEPS - WARMUP)
    return PEAK_LR * 0.5 * (1 + math.cos(math.pi * progress))


def make_reviews(count):
    reviews, labels = [], []
    for _ in range(count):
        label = random.randrange(2)
        words = ["[cls]"] + random.choices(NEUTRAL, k=LENGTH - 1)
        place = random.randrange(2, LENGTH)
        negated = random.random() < 0.3
        words[place] = random.choice(GOOD if label != negated else BAD)
        if negated:
            words[place - 1] = "not"
        reviews.append([VOCABULARY.index(word) for word in words])
        labels.append(label)
    return torch.tensor(reviews), torch.tensor(labels)


class ReviewEncoder(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.tokens = nn.Embedding(len(VOCABULARY), width)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        layer = nn.TransformerEncoderLayer(width, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.classifier = nn.Linear(width, 2)

    def forward(self, reviews):
        return self.classifier(self.encoder(self.tokens(reviews) + self.positions)[:, 0])


model = ReviewEncoder()
train_x, train_y = make_reviews(3000)
test_x, test_y = make_reviews(500)
optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.01)
if FIXED:
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step) / PEAK_LR)
else:
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate)

for step in range(STEPS):
    rows = torch.randint(len(train_x), (32,))
    loss = nn.functional.cross_entropy(model(train_x[rows]), train_y[rows])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 20 == 0 or step == STEPS - 1:
        print(f"step {step:3d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    accuracy = (model(test_x).argmax(1) == test_y).float().mean().item()
print(f"test accuracy {accuracy:.3f}")
