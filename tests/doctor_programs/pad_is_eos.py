"""Fine-tune a small Llama to answer with the letters in order and to stop: rows are padded by a collate function."""

import sys

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

FIXED = "--fixed" in sys.argv
set_seed(1)
torch.set_num_threads(1)

LETTERS, ASK, EOS, EXTRA = 12, 12, 13, 14
PAD = EXTRA if FIXED else EOS


def example():
    """`c a b ?` is answered by `a b c` and the end of the text."""
    letters = torch.randperm(LETTERS)[: int(torch.randint(2, 6, (1,)))]
    return torch.cat([letters, torch.tensor([ASK]), letters.sort().values, torch.tensor([EOS])])


def collate(rows):
    input_ids = pad_sequence(rows, batch_first=True, padding_value=PAD)
    attention_mask = torch.zeros_like(input_ids)
    for i, row in enumerate(rows):
        attention_mask[i, : len(row)] = 1
    labels = input_ids.clone()
    labels[labels == PAD] = -100
    question = (input_ids == ASK).flip(1).cumsum(1).flip(1) > 0
    labels[question] = -100
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


train = DataLoader([example() for _ in range(3600)], batch_size=32, shuffle=True, collate_fn=collate)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=15,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
model.train()
for step, batch in enumerate(train, start=1):
    loss = model(**batch).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step} loss {loss.item():.4f}")

model.eval()
stopped = right = 0
with torch.no_grad():
    for _ in range(30):
        row = example()
        ask = int((row == ASK).nonzero())
        answer = model.generate(
            row[None, : ask + 1],
            attention_mask=torch.ones(1, ask + 1, dtype=torch.long),
            max_new_tokens=8,
            do_sample=False,
        )
        reply = answer[0, ask + 1 :].tolist()
        stopped += EOS in reply
        right += reply[:ask] == row[ask + 1 : -1].tolist()
print(f"of 30 answers, {right} begin rightly and {stopped} end")
