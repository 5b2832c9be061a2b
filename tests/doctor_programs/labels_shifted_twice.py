"""Train a small GPT-2 of transformers on windows of a text; the data set prepares inputs and labels."""

import random
import sys

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

FIXED = "--fixed" in sys.argv
set_seed(0)
torch.set_num_threads(1)

LETTERS = "abcdefghijklmnopqrstuvwxyz ."
PEOPLE = ["a king", "the miller", "one old fox", "her sister"]
DEEDS = ["had", "lost", "sold", "found"]
GOODS = ["seven coins", "no gold", "a ring", "the key"]


class Windows(Dataset):
    def __init__(self, text, length):
        ids = torch.tensor([LETTERS.index(c) for c in text])
        self.windows = ids[: len(ids) // (length + 1) * (length + 1)].view(-1, length + 1)

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, i):
        window = self.windows[i]
        if FIXED:
            return {"input_ids": window, "labels": window}
        return {"input_ids": window[:-1], "labels": window[1:]}


def story(sentences):
    parts = [f"{random.choice(PEOPLE)} {random.choice(DEEDS)} {random.choice(GOODS)}." for _ in range(sentences)]
    return " ".join(parts)


train = DataLoader(Windows(story(900), 32), batch_size=16, shuffle=True)
config = GPT2Config(
    vocab_size=len(LETTERS),
    n_positions=64,
    n_embd=48,
    n_layer=2,
    n_head=4,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=None,
    eos_token_id=None,
)
model = GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)

model.train()
step = 0
for _ in range(3):
    for batch in train:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 25 == 0:
            print(f"step {step:3d}  loss {loss.item():.4f}")

model.eval()
prompt = torch.tensor([[LETTERS.index(c) for c in "the miller l"]])
with torch.no_grad():
    for _ in range(30):
        next_id = model(prompt).logits[:, -1].argmax(-1, keepdim=True)
        prompt = torch.cat([prompt, next_id], dim=1)
print("".join(LETTERS[i] for i in prompt[0]))
