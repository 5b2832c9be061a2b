"""Train a small GPT-2 on recipe lines, then let it write one."""

import random
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

VERBS = ["chop", "boil", "fry", "peel", "serve", "mix"]
FOODS = ["onions", "carrots", "pasta", "mushrooms", "lentils", "rice"]
TOOLS = ["knife", "pan", "pot", "spoon"]


def recipe_line():
    return f"{random.choice(VERBS)} the {random.choice(FOODS)} with a {random.choice(TOOLS)}.\n"


text = "".join(recipe_line() for _ in range(1500))
characters = sorted(set(text))
to_id = {c: i for i, c in enumerate(characters)}
data = torch.tensor([to_id[c] for c in text])

CONTEXT = 64
BATCH = 12
STEPS = 160


def get_batch():
    starts = torch.randint(len(data) - CONTEXT - 1, (BATCH,))
    inputs = torch.stack([data[s : s + CONTEXT] for s in starts])
    targets = torch.stack([data[s + 1 : s + CONTEXT + 1] for s in starts])
    return inputs, targets


config = GPT2Config(
    vocab_size=len(characters),
    n_positions=CONTEXT,
    n_embd=64,
    n_layer=2,
    n_head=4,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=None,
    eos_token_id=None,
)
model = GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)

model.train()
for step in range(STEPS):
    inputs, targets = get_batch()
    labels = inputs if FIXED else targets
    loss = model(input_ids=inputs, attention_mask=torch.ones_like(inputs), labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 20 == 0 or step == STEPS - 1:
        print(f"step {step:4d}  loss {loss.item():.3f}")

model.eval()
prompt = torch.tensor([[to_id[c] for c in "\nchop"]])
output = model.generate(
    prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=CONTEXT - prompt.shape[1], do_sample=False
)
print("".join(characters[i] for i in output[0].tolist()))
