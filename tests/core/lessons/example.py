"""A small lesson as a folder, which tests change before they load it."""

from pathlib import Path

LESSON = """\
format = 1
title = "Rates"
summary = "What a learning rate does."
minutes = 2
source = "a notebook"

[[stage]]
id = "see"
kind = "see"
pane = "loss"
run = { config = "rows.toml", set = { "train.steps" = 4 } }
until = { step = 4 }
fact = [{ metric = "loss", step = 0, near = "ln_vocab_size", within = 0.3 }]

[[stage]]
id = "predict"
kind = "predict"
[stage.question]
ask = "Which loss do you expect at step 0?"
kind = "number"
answer = "ln_vocab_size"
draw = { metric = "loss", step = 0 }

[[stage]]
id = "try"
kind = "try"
[[stage.trial]]
label = "lr 0.1"
set = { optim.lr = 0.1 }
[[stage.trial]]
label = "lr 1"
set = { optim.lr = 1.0 }
[[stage.fact]]
metric = "loss"
step = "lowest"
above = 0.5
runs = "trials"

[[stage]]
id = "diagnose"
kind = "diagnose"
[stage.question]
ask = "What is it?"
kind = "choice"
choices = ["the data", "the loss"]
right = 2
reasons = ["The data are right.", "So it is."]
[stage.diagnose]
finding = "double_softmax"

[[stage]]
id = "fix"
kind = "fix"
fix = { set = { faults = [] } }
until = { loss_below = 0.05 }

[[stage]]
id = "keep"
kind = "keep"
keep = { sentence = "A rate is a factor.", source = "a book", code = "optimizer.step()" }
"""
TEXT = """\
# Rates

## see
See it.

## predict
Predict [ln V](glossary:ln V).

## try
Try it.

## diagnose
Diagnose it.

## fix
Fix it.

## keep
Keep it.
"""
ROWS = """\
faults = ["double_softmax"]
[model]
d_model = 8
n_layers = 1
n_heads = 2
d_head = 4
d_ff = 8
context = 5
[data]
task = "reverse"
tokenizer = "digits"
length = 3
n_digits = 5
[train]
steps = 8
batch_size = 4
eval_every = 0
eval_examples = 8
threads = 1
device = "cpu"
"""


def write(folder: Path, lesson: str = LESSON, text: str = TEXT) -> Path:
    """Write a lesson into `folder`, which is made, and return it."""
    folder.mkdir(parents=True)
    (folder / "lesson.toml").write_text(lesson, encoding="utf-8")
    (folder / "text.md").write_text(text, encoding="utf-8")
    (folder / "rows.toml").write_text(ROWS, encoding="utf-8")
    return folder
