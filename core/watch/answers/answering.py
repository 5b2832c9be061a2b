"""Answers Generate, Attend and LookInside in the process that has the model."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tui_lab.core import commands as cmd
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.sampling import Generated
from tui_lab.core.inside.looks import look_at
from tui_lab.core.inside.results import LookResult
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.answers import answer_files as answers
from tui_lab.core.watch.answers.attention_capture import capture_attention, without_compiled_code
from tui_lab.core.watch.answers.generation import generate_plain
from tui_lab.core.watch.answers.inside_answers import InsideAnswer, write_inside
from tui_lab.core.watch.answers.script_model import ScriptModel
from tui_lab.core.watch.batch.recorded_batch import Ids, RecordedBatch
from tui_lab.core.watch.model.model_calls import CallForm, copied, evaluating, unwrapped
from tui_lab.core.watch.model.unchanged_model import unchanged_attributes, unchanged_buffers
from tui_lab.core.watch.recorder import Recorder
from tui_lab.core.watch.run_log import RunLog
from tui_lab.core.watch.tokenizer.script_tokenizer import ScriptTokenizer
from tui_lab.core.watch.variables.script_objects import stored
from tui_lab.data.tokenizers import IdTokenizer, Tokenizer
from tui_lab.util.errors import RunError

NO_TOKENS = "the script's model has not been called with token ids"
ENCODER_DECODER = "the model is an encoder-decoder, which needs a second row of tokens: this is not supported"


class Answering:
    """Looks at a model between two steps. Text is generated from a copy in a thread, so that training continues.

    thread: of the latest generation, None if there was none.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stop = threading.Event()
        self.thread: threading.Thread | None = None

    def close(self) -> None:
        """End the generation under way."""
        self._stop.set()
        if self.thread is not None:
            self.thread.join()

    def attend(self, command: cmd.Attend, model: nn.Module | None, recorder: Recorder) -> None:
        """Write the attention maps of one row of the latest batch, or why there are none. Raises OSError."""
        if answers.is_valid_id(command.id):
            maps = _attention(model, _form(model, recorder), recorder.steps.latest_x, command.row)
            answers.write_attention(self._run.path, command.id, maps)

    def look_inside(self, command: cmd.LookInside, model: nn.Module | None, recorder: Recorder) -> None:
        """Measure one row of the latest batch, and write the answer, or why there is none. Raises OSError."""
        if not answers.is_valid_id(command.id):
            return
        began = time.perf_counter()
        batch = recorder.steps.latest_batch
        x, y = _tokens(batch)
        form = _form(model, recorder)
        if model is None or form is None or not len(x):
            result: LookResult = f"Not available: {_reason(model)}."
        else:
            result = _look(unwrapped(model), form, x, y, command)
        seconds = time.perf_counter() - began
        answer = InsideAnswer(recorder.log.n_steps, seconds, 0, 0, x, y, result)
        if batch is not None:
            facts = {name: getattr(batch, name) for name in ("n_rows", "n_classes", "class_names")}
            answer = replace(answer, batch_step=batch.step, **facts)
        write_inside(self._run.path, command.id, answer)

    def generate(self, command: cmd.Generate, model: nn.Module | None, recorder: Recorder) -> None:
        """Begin to generate; a generation under way ends. Raises OSError."""
        if not answers.is_valid_id(command.id):
            return
        self.close()
        self._stop = threading.Event()
        step = recorder.log.n_steps
        form = _form(model, recorder)
        if model is None or form is None:
            self._refuse(command, step, _reason(model))
            return
        inner = unwrapped(model)
        model_copy = copied(inner)
        used = inner if model_copy is None else model_copy
        generated = self._generated(command, used, form, recorder.log)
        if model_copy is None:
            with evaluating(inner):
                answers.write_generation(self._run.path, command.id, step, generated)
            return
        arguments = (self._run.path, command.id, step, generated)
        self.thread = threading.Thread(target=answers.write_generation, args=arguments, name="tui-lab generation")
        self.thread.daemon = True
        self.thread.start()

    def _refuse(self, command: cmd.Generate, step: int, reason: str) -> None:
        def tokens() -> Iterable[Generated]:
            raise RunError.of("unavailable", reason)
            yield

        answers.write_generation(self._run.path, command.id, step, tokens())

    def _generated(self, command: cmd.Generate, model: nn.Module, form: CallForm, log: RunLog) -> Iterable[Generated]:
        device = next(model.parameters()).device
        encode, shown = encoder_of(log.tokenizer)
        # A recurrent model takes rows of any length.
        context = None if form.state is not None and device.type == "cpu" else log.config.model.context
        forward = form.forward(model)
        n_vocab = log.n_vocab or None
        return generate_plain(forward, encode, shown, command, context, device, self._stop.is_set, n_vocab)


def is_encoder_decoder(model: nn.Module) -> bool:
    """Return whether the config of a model of transformers, or of one inside it, says so."""
    return any(stored(stored(part).get("config")).get("is_encoder_decoder") is True for part in model.modules())


def _form(model: nn.Module | None, recorder: Recorder) -> CallForm | None:
    """Return how a row of ids becomes logits; None if that is not known, or if the model needs a second row."""
    return None if model is None or is_encoder_decoder(model) else recorder.script.form


def _reason(model: nn.Module | None) -> str:
    """Return why a model cannot be looked at."""
    return ENCODER_DECODER if model is not None and is_encoder_decoder(model) else NO_TOKENS


def encoder_of(tokenizer: ScriptTokenizer | None) -> tuple[Callable[[str], list[int]], Tokenizer]:
    """Return how a prompt becomes ids, and how ids are shown; without a tokenizer both are numbers."""
    if tokenizer is not None:
        return tokenizer.encode, tokenizer.tokenizer()
    numbers = IdTokenizer(2**31)
    return lambda text: [int(i) for i in numbers.encode(text)], numbers


def _attention(model: nn.Module | None, form: CallForm | None, x: Ids | None, row: int) -> AttentionMaps | str:
    if model is None or form is None or x is None:
        return _reason(model)
    inner = unwrapped(model)
    device = next(inner.parameters()).device
    row_ids = torch.from_numpy(np.ascontiguousarray(x[row % len(x)])[None]).to(device)
    try:
        with evaluating(inner):
            return capture_attention(lambda: form.forward(inner)(row_ids))
    except Exception as error:  # The user's model may raise anything.
        return f"the model fails on one row: {type(error).__name__}: {error}"


def _tokens(batch: RecordedBatch | None) -> tuple[Ids, Ids]:
    """Return x and y of the recorded rows, y IGNORED where it is not known: [R, T], no rows without tokens."""
    rows = None if batch is None else batch.token_rows
    return (np.zeros((0, 0), np.int64), np.zeros((0, 0), np.int64)) if rows is None else rows


def _look(model: nn.Module, form: CallForm, x: Ids, y: Ids, command: cmd.LookInside) -> LookResult:
    """Look into the script's model, which is afterwards as it was."""
    row = command.row % len(x)
    try:
        with evaluating(model), unchanged_buffers(model), unchanged_attributes(model), without_compiled_code():
            ids = torch.from_numpy(x[row : row + 1]).to(next(model.parameters()).device)
            wrapped = ScriptModel(model, form, ids)
            return look_at(wrapped, command.look, x, y, row, n_vocab=wrapped.n_vocab, how=command.how)
    except Exception as error:  # The user's model may raise anything.
        return f"Not available: the model fails on one row: {type(error).__name__}: {error}"
