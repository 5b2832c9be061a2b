"""Train a small Llama on short stories with the Hugging Face Trainer and count the stories that it ends."""

import random
import sys
import tempfile

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

WHO = ["anna", "ben", "the fox", "a knight"]
WHAT = ["found", "lost", "sold", "painted"]
THING = ["a boat", "the key", "a red hat", "an old map"]


def story():
    sentences = [
        f"{random.choice(WHO)} {random.choice(WHAT)} {random.choice(THING)} ." for _ in range(random.randint(1, 3))
    ]
    return " ".join(sentences)


stories = [story() for _ in range(800)]
words = sorted({word for line in stories for word in line.split()})
vocabulary = ["<s>", "</s>", "<pad>", *words]
BOS, EOS = vocabulary.index("<s>"), vocabulary.index("</s>")
PAD = vocabulary.index("<pad>") if FIXED else EOS


def encode(line):
    return [BOS, *(vocabulary.index(word) for word in line.split()), EOS]


def collate(examples):
    """Pad the stories of a batch on the right; padding takes no part in the loss."""
    input_ids = pad_sequence(
        [torch.tensor(example["input_ids"]) for example in examples], batch_first=True, padding_value=PAD
    )
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    labels = input_ids.clone()
    labels[labels == PAD] = -100
    attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


examples = [{"input_ids": encode(line)} for line in stories]
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
)

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=16,
        num_train_epochs=3,
        learning_rate=3e-3,
        logging_steps=25,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    Trainer(model=model, args=arguments, train_dataset=examples, data_collator=collate).train()

model.eval()
prompt = torch.tensor([[BOS]] * 20)
output = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=True)
ended = (output[:, 1:] == EOS).any(1).sum().item()
print(f"{ended} of 20 stories came to an end within 40 tokens")
print(" ".join(vocabulary[i] for i in output[0].tolist()))
