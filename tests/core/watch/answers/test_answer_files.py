"""Answers to commands that need the model: asked through the queue, read from the run folder."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch import loops
from tests.core.watch.loops import T, V, batch
from tui_lab.core import commands as cmd
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.runs.run_files import ANSWERS
from tui_lab.core.watch.answers import answer_files as answers
from tui_lab.core.watch.answers.answering import ENCODER_DECODER
from tui_lab.core.watch.answers.inside_answers import read_inside
from tui_lab.core.watch.recording import Recording


class Attention(nn.Module):
    """Token ids [B, T] → logits [B, T, V] through one layer with two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 8)
        self.head = nn.Linear(8, V)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        e = self.embedding(input_ids)
        heads = e.unflatten(-1, (2, 4)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        logits = self.head(F.dropout(mixed.transpose(1, 2).flatten(2), 0.5, self.training))
        if labels is None:
            return {"logits": logits}
        return {"logits": logits, "loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten())}


class EncoderDecoder(Attention):
    """With the config that transformers gives such a model."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(is_encoder_decoder=True)


def train(steps: int, model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        x, y = batch(step)
        model(input_ids=x, labels=y)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()


def recorded(folder: Path, model: nn.Module, *commands: cmd.Command) -> Path:
    """The run folder of three steps, with `commands` after the first."""
    recording = Recording.start("test", ["test.py"], folder / "run")
    recording.recorder.batches.always = True
    for command in commands:
        recording.boundary.control.commands.put(command)
    train(3, model)
    thread = recording.answering.thread
    if thread is not None:
        thread.join()
    recording.end()
    return recording.run.path


def test_text_is_generated_from_the_model_and_training_does_not_notice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Attention()
    folder = recorded(tmp_path, model, cmd.Generate("g-1", "1 2 3", max_new_tokens=5))
    answer = answers.read_generation(folder, "g-1")
    assert (answer.done, answer.error, len(answer.tokens)) == (True, None, 5)
    assert all(0 <= token.token < V for token in answer.tokens)

    torch.manual_seed(0)
    alone = Attention()
    train(3, alone)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), alone.parameters(), strict=True))


def test_same_seed_gives_the_same_text(tmp_path: Path) -> None:
    torch.manual_seed(0)
    request = {"prompt": "1 2", "max_new_tokens": 4, "seed": 3}
    folder = recorded(tmp_path, Attention(), cmd.Generate("a", **request))  # type: ignore[arg-type]
    torch.manual_seed(0)
    other = recorded(tmp_path / "2", Attention(), cmd.Generate("b", **request))  # type: ignore[arg-type]
    assert answers.read_generation(folder, "a").tokens == answers.read_generation(other, "b").tokens


def test_attention_maps_of_a_row_come_back(tmp_path: Path) -> None:
    model = Attention()
    folder = recorded(tmp_path, model, cmd.Attend("maps", row=1))
    maps = answers.read_attention(folder, "maps")
    assert isinstance(maps, AttentionMaps)
    assert maps.weights.shape == (1, 2, T, T)
    assert not maps.sees_later
    assert model.training, "the mode of the model is as it was"


def test_model_without_tokens_says_why(tmp_path: Path) -> None:
    recording = Recording.start("test", ["test.py"], tmp_path / "run")
    for _ in loops.without_tokens():
        recording.boundary.control.commands.put(cmd.Attend("maps"))
        recording.boundary.control.commands.put(cmd.Generate("text", "1"))
    recording.end()
    assert isinstance(answers.read_attention(recording.run.path, "maps"), str)
    assert answers.read_generation(recording.run.path, "text").error


def test_encoder_decoder_is_refused_before_it_is_called(tmp_path: Path) -> None:
    model = EncoderDecoder()
    folder = recorded(tmp_path, model, cmd.Generate("text", "1"), cmd.Attend("maps"), cmd.LookInside("look", "lens"))
    generation = answers.read_generation(folder, "text")
    inside = read_inside(folder, "look")
    assert generation.error is not None and ENCODER_DECODER in generation.error
    assert answers.read_attention(folder, "maps") == ENCODER_DECODER
    assert inside is not None and ENCODER_DECODER in str(inside.result)


def test_answer_is_not_written_outside_its_folder(tmp_path: Path) -> None:
    bad_ids = ("", "../x", "a/b", "a" * 65, ".")
    commands = [command for bad_id in bad_ids for command in (cmd.Attend(bad_id), cmd.Generate(bad_id, "1"))]
    recorded(tmp_path, Attention(), *commands)
    assert not list((tmp_path / "run").glob("answers/*"))
    assert not list(tmp_path.rglob("x.*"))


def test_unfinished_answer_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / ANSWERS).mkdir()
    (tmp_path / ANSWERS / "a.jsonl").write_text('{"step": 7}\n{"token": 1, "te', "utf-8")
    answer = answers.read_generation(tmp_path, "a")
    assert (answer.step, answer.tokens, answer.done) == (7, [], False)
