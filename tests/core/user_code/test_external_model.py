"""A user's model in place of the built-in transformer."""

from pathlib import Path

import numpy as np
import pytest

from tests.core.tiny import losses, of_kind, same_weights, tiny, trainer
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.doctor.program.from_config import target_from_config
from tui_lab.core.doctor.runner import examine
from tui_lab.core.inference.example import cell_losses
from tui_lab.core.inference.generate import generate
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.model import set_dropout
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError

FILE = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, n_vocab, context, dropout):
        super().__init__()
        self.e, self.p = nn.Embedding(n_vocab, 16), nn.Embedding(context, 16)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, dropout, batch_first=True) for _ in range(2))
        self.h = nn.Linear(16, n_vocab)
    def forward(self, x):
        t = x.shape[1]
        e = self.e(x) + self.p(torch.arange(t))
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        for layer in self.layers:
            e = layer(e, src_mask=mask, is_causal=True)
        return self.h(e)

class Peeks(Mine):
    def forward(self, x):
        return self.h(self.e(x) + self.e(x).mean(1, keepdim=True) + self.p(torch.arange(x.shape[1])))

class Views(Mine):
    def forward(self, x):
        return super().forward(x.view(-1).view(x.shape))

def few(n_vocab):
    return Mine(n_vocab - 1, 5, 0.0)

def word():
    return "model"
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(FILE, "utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def named(source: str) -> None:
    trust.allow(source)


def setting(source: str, name: str) -> str:
    return f"model.source={source}:{name}"


def test_user_model_trains_reproducibly_and_resumes_exactly(source: str) -> None:
    sets = (setting(source, "Mine"), "model.dropout=0.1", "train.steps=40", "train.checkpoint_every=20")
    kept: list[Checkpoint] = []

    def save(checkpoint: Checkpoint) -> str:
        kept.append(checkpoint)
        return "kept"

    whole, again = trainer(*sets, save=save), trainer(*sets)
    events = list(whole.events())
    assert losses(events) == losses(again.events()) and same_weights(whole, again)
    assert losses(events)[-1] < losses(events)[0]
    [started] = of_kind(ev.Started, events)
    assert started.parameters == sum(p.numel() for p in whole.model.parameters())
    resumed = trainer(resume=kept[0])
    assert losses(events)[20:] == losses(resumed.events()) and same_weights(whole, resumed)


def test_user_model_can_be_inspected_generates_and_takes_live_dropout(source: str) -> None:
    training = trainer(setting(source, "Mine"))
    list(training.events())
    tokens = list(generate(training.model, training.task.tokenizer, "12", max_new_tokens=6, sampling=Sampling(0.0)))
    assert len(tokens) == 6
    batch = training.loader.batch(0)
    training.model.eval()
    assert cell_losses(training.model, batch.x[0], batch.y[0]).losses.shape == (5,)
    set_dropout(training.model, 0.5)
    rates = {m.p for m in training.model.modules() if type(m).__name__ == "Dropout"}
    assert rates == {0.5}
    ckpt.restore_model(training.model, ckpt.copy_weights(training.model.state_dict()))


def test_user_model_may_view_the_ids_of_a_text(source: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("one word and another. " * 40, "utf-8")
    text = ("data.task=text", "data.tokenizer=char", f"data.path={corpus}", "train.eval_every=4")
    training = trainer(setting(source, "Views"), *text)
    events = list(training.events())
    assert len(losses(events)) == 8 and of_kind(ev.Evaluated, events)
    assert not of_kind(ev.Failed, events)
    x, y = training.task.val.examples(np.array([0, 1]))
    training.model.eval()
    assert cell_losses(training.model, x[0], y[0]).losses.shape == (5,)


@pytest.mark.parametrize(
    ("name", "codes"), [pytest.param("Mine", [], marks=pytest.mark.slow), ("Peeks", ["causal_leak"])]
)
def test_doctor_diagnoses_a_user_model(name: str, codes: list[str], source: str) -> None:
    report = examine(target_from_config(tiny(setting(source, name))))
    assert [finding.code for finding in report.findings][:1] == codes
    assert report.crashed == ()


@pytest.mark.parametrize(
    ("name", "code"),
    [("few", "user_code"), ("word", "user_code")],
)
def test_source_that_gives_no_fitting_model_is_an_error(name: str, code: str, source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trainer(setting(source, name))
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.value) == (code, "model.source", f"{source}:{name}")


def test_misspelled_name_in_a_source_suggests_the_nearest(source: str) -> None:
    with pytest.raises(ConfigError, match="Mine"):
        trainer(setting(source, "Mime"))


def test_settings_for_the_built_in_model_only_are_errors(source: str) -> None:
    for sets, message in (("optim.name=muon", "muon"), ('faults=["no_mask"]', "needs the built-in model")):
        with pytest.raises(ConfigError, match=message):
            settings.build(tiny(setting(source, "Mine")).model_dump(), [sets])
