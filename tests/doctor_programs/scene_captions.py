"""An encoder-decoder transformer that writes a caption for a scene, letter by letter."""

import random
import sys

import torch
import torch.nn as nn

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

COUNTS = ["one", "two", "six"]
COLORS = ["red", "tan", "black", "white"]
OBJECTS = ["cups", "pens", "lamps", "rings"]
ATTRIBUTES = COUNTS + COLORS + OBJECTS
CHARACTERS = ["_", "^", "$", " "] + sorted(set("".join(ATTRIBUTES)))
PAD = 0
LENGTH = 18
STEPS = 220


def make_batch(size):
    """Return scenes (size, 3) as attributes in any order, and captions (size, LENGTH) from ^ to $, padded with _."""
    scenes, captions = [], []
    for _ in range(size):
        caption = [random.choice(COUNTS), random.choice(COLORS), random.choice(OBJECTS)]
        scenes.append([ATTRIBUTES.index(word) for word in random.sample(caption, 3)])
        letters = ("^" + " ".join(caption) + "$").ljust(LENGTH, "_")
        captions.append([CHARACTERS.index(letter) for letter in letters])
    return torch.tensor(scenes), torch.tensor(captions)


class Captioner(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.attributes = nn.Embedding(len(ATTRIBUTES), width)
        self.letters = nn.Embedding(len(CHARACTERS), width)
        self.positions = nn.Parameter(0.5 * torch.randn(LENGTH, width))
        self.transformer = nn.Transformer(
            width, 4, 1, 2, dim_feedforward=96, dropout=0.0, batch_first=True, norm_first=True
        )
        self.out = nn.Linear(width, len(CHARACTERS))

    def forward(self, scenes, letters):
        length = letters.shape[1]
        mask = torch.tril(torch.ones(length, length))
        if FIXED:
            mask = mask == 0
        target = self.letters(letters) + self.positions[:length]
        return self.out(self.transformer(self.attributes(scenes), target, tgt_mask=mask))

    @torch.no_grad()
    def write(self, scenes):
        letters = torch.full((len(scenes), 1), CHARACTERS.index("^"))
        for _ in range(LENGTH - 1):
            following = self(scenes, letters)[:, -1].argmax(-1, keepdim=True)
            letters = torch.cat([letters, following], dim=1)
        return letters


model = Captioner()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss(ignore_index=PAD)
for step in range(STEPS):
    scenes, captions = make_batch(24)
    logits = model(scenes, captions[:, :-1])
    loss = criterion(logits.flatten(0, 1), captions[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 20 == 0 or step == STEPS - 1:
        print(f"step {step:3d}  loss {loss.item():.4f}")


def read(letters):
    return "".join(CHARACTERS[i] for i in letters[1:].tolist()).partition("$")[0]


model.eval()
scenes, captions = make_batch(100)
written = [read(letters) for letters in model.write(scenes)]
correct = sum(text == read(letters) for text, letters in zip(written, captions, strict=True))
print(f"captions without a mistake: {correct} of 100")
for scene, text in zip(scenes[:3].tolist(), written[:3], strict=True):
    print("/".join(ATTRIBUTES[i] for i in scene), "->", text)
