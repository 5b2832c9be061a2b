"""Instruction tuning of a small GPT-2: long noisy prompts, short answers, only the answers matter."""

import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

FIXED = "--fixed" in sys.argv
set_seed(4)
torch.set_num_threads(1)

NOISE, PROMPT, CLASSES, RESPONSE = 32, 30, 8, 40  # RESPONSE: the token that opens the answer


def make_row():
    """30 tokens of noise with one of eight topics among them; the answer names the next topic."""
    prompt = torch.randint(0, NOISE, (PROMPT,))
    topic = torch.randint(0, CLASSES, (1,))
    prompt[torch.randint(0, PROMPT, (1,))] = NOISE + topic
    answer = NOISE + (topic + 1) % CLASSES
    input_ids = torch.cat([prompt, torch.tensor([RESPONSE]), answer])
    labels = input_ids.clone()
    if FIXED:
        labels[: PROMPT + 1] = -100
    return {"input_ids": input_ids, "labels": labels}


rows = [make_row() for _ in range(1200)]
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=RESPONSE + 1,
        n_positions=40,
        n_embd=48,
        n_layer=2,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out",
        max_steps=75,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        logging_steps=15,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=4,
    ),
    train_dataset=rows,
)
trainer.train()

model.eval()
test = [make_row()["input_ids"] for _ in range(300)]
with torch.no_grad():
    inputs = torch.stack(test)
    guess = model(inputs[:, : PROMPT + 1]).logits[:, -1].argmax(-1)
print(f"right answers {(guess == inputs[:, PROMPT + 1]).float().mean():.3f}")
