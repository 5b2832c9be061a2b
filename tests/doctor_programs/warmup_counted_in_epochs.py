"""Train a small BERT of transformers to classify rows, with linear warm-up and decay of the learning rate."""

import sys

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup, set_seed

FIXED = "--fixed" in sys.argv
set_seed(7)
torch.set_num_threads(1)

CLS, TOPICS, VOCAB, LENGTH, EPOCHS = 0, 6, 80, 16, 3


def make_row():
    """Four of the tokens belong to one of six topics, five tokens each; the others are noise."""
    topic = torch.randint(0, TOPICS, (1,))
    tokens = torch.randint(1 + 5 * TOPICS, VOCAB, (LENGTH,))
    tokens[torch.randperm(LENGTH)[:4]] = 1 + 5 * topic + torch.randint(0, 5, (4,))
    tokens[0] = CLS
    return {"input_ids": tokens, "labels": topic.squeeze(0)}


train = DataLoader([make_row() for _ in range(1280)], batch_size=32, shuffle=True)
test = DataLoader([make_row() for _ in range(400)], batch_size=100)
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=LENGTH,
        num_labels=TOPICS,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
steps = EPOCHS * len(train)
scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=steps // 10, num_training_steps=steps)

for epoch in range(1, EPOCHS + 1):
    model.train()
    total = 0.0
    for batch in train:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if FIXED:
            scheduler.step()
        optimizer.zero_grad()
        total += loss.item()
    if not FIXED:
        scheduler.step()
    model.eval()
    with torch.no_grad():
        right = sum((model(b["input_ids"]).logits.argmax(-1) == b["labels"]).sum().item() for b in test)
    print(f"epoch {epoch}: loss {total / len(train):.4f}, accuracy {right / 400:.3f}")
