"""Answers Generate and Attend in the process that has the model."""

import threading
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from tui_lab.core import commands as cmd
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.sampling import Generated
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch import answers
from tui_lab.core.watch.attention_capture import capture_attention
from tui_lab.core.watch.generation import generate_plain
from tui_lab.core.watch.model_calls import CallForm, copied, evaluating, unwrapped
from tui_lab.core.watch.recorded_batch import Ids
from tui_lab.core.watch.recorder import Recorder
from tui_lab.core.watch.run_log import RunLog
from tui_lab.core.watch.script_tokenizer import ScriptTokenizer
from tui_lab.data.tokenizers import IdTokenizer, Tokenizer
from tui_lab.util.errors import RunError

NO_TOKENS = "the script's model has not been called with token ids"


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
            maps = _attention(model, recorder.script.form, recorder.steps.latest_x, command.row)
            answers.write_attention(self._run.path, command.id, maps)

    def generate(self, command: cmd.Generate, model: nn.Module | None, recorder: Recorder) -> None:
        """Begin to generate; a generation under way ends. Raises OSError."""
        if not answers.is_valid_id(command.id):
            return
        self.close()
        self._stop = threading.Event()
        step = recorder.log.n_steps
        if model is None or recorder.script.form is None:
            self._refuse(command, step)
            return
        inner = unwrapped(model)
        model_copy = copied(inner)
        used = inner if model_copy is None else model_copy
        generated = self._generated(command, used, recorder.script.form, recorder.log)
        if model_copy is None:
            with evaluating(inner):
                answers.write_generation(self._run.path, command.id, step, generated)
            return
        arguments = (self._run.path, command.id, step, generated)
        self.thread = threading.Thread(target=answers.write_generation, args=arguments, name="tui-lab generation")
        self.thread.daemon = True
        self.thread.start()

    def _refuse(self, command: cmd.Generate, step: int) -> None:
        def tokens() -> Iterable[Generated]:
            raise RunError.of("unavailable", NO_TOKENS)
            yield

        answers.write_generation(self._run.path, command.id, step, tokens())

    def _generated(self, command: cmd.Generate, model: nn.Module, form: CallForm, log: RunLog) -> Iterable[Generated]:
        device = next(model.parameters()).device
        encode, shown = encoder_of(log.tokenizer)
        context = log.config.model.context
        forward = form.forward(model)
        n_vocab = log.n_vocab or None
        return generate_plain(forward, encode, shown, command, context, device, self._stop.is_set, n_vocab)


def encoder_of(tokenizer: ScriptTokenizer | None) -> tuple[Callable[[str], list[int]], Tokenizer]:
    """How a prompt becomes ids, and how ids are shown; without a tokenizer both are numbers."""
    if tokenizer is not None:
        return tokenizer.encode, tokenizer.tokenizer()
    numbers = IdTokenizer(2**31)
    return lambda text: [int(i) for i in numbers.encode(text)], numbers


def _attention(model: nn.Module | None, form: CallForm | None, x: Ids | None, row: int) -> AttentionMaps | str:
    if model is None or form is None or x is None:
        return NO_TOKENS
    inner = unwrapped(model)
    device = next(inner.parameters()).device
    row_ids = torch.from_numpy(np.ascontiguousarray(x[row % len(x)])[None]).to(device)
    try:
        with evaluating(inner):
            return capture_attention(lambda: form.forward(inner)(row_ids))
    except Exception as error:  # The user's model may raise anything.
        return f"the model fails on one row: {type(error).__name__}: {error}"
