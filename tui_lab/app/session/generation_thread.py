"""Generation beside a training: from a copy of its weights, in a thread of its own."""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_lab.app.session.buffer import Buffer
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Request:
    """One prompt to go on from. number tells answers apart; model and tokenizer are those of the run."""

    number: int
    prompt: str
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int


@dataclass(frozen=True)
class Speaking:
    """An answer begins, from these weights."""

    number: int
    whose: cmd.WeightsInfo


@dataclass(frozen=True)
class Said:
    number: int
    generated: Generated


@dataclass(frozen=True)
class Finished:
    """The end of an answer; error says why where it is not the regular one."""

    number: int
    error: str = ""


class Speaker:
    """Answers one request at a time; a new one ends the old one. `drain` gives Speaking, Said and Finished."""

    def __init__(self, send: Callable[[cmd.Command], None]) -> None:
        self._send = send
        self._buffer = Buffer()
        self._stop = threading.Event()

    def drain(self) -> list[object]:
        return self._buffer.drain()

    def stop(self) -> None:
        self._stop.set()

    def ask(self, request: Request, config: Config, tokenizer: Tokenizer) -> None:
        self.stop()
        stop = self._stop = threading.Event()

        def receive(weights: "dict[str, Tensor]", whose: cmd.WeightsInfo) -> None:
            self._buffer.put(Speaking(request.number, whose))
            threading.Thread(
                target=self._speak, args=(request, config, tokenizer, weights, stop), name="speaking", daemon=True
            ).start()

        self._send(cmd.Snapshot(receive))

    def _speak(
        self,
        request: Request,
        config: Config,
        tokenizer: Tokenizer,
        weights: "dict[str, Tensor]",
        stop: threading.Event,
    ) -> None:
        from tui_lab.core.inference.generate import generate
        from tui_lab.core.training.model_factory import build_model

        error = ""
        try:
            model = build_model(config, tokenizer.n_vocab)
            model.load_state_dict(weights)
            sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
            for made in generate(
                model, tokenizer, request.prompt, max_new_tokens=request.max_new_tokens, sampling=sampling,
                stop=stop.is_set,
            ):  # fmt: skip
                self._buffer.put(Said(request.number, made))
        except (ConfigError, DataError) as problem:
            error = str(problem)
        except Exception:
            error = traceback.format_exc(limit=1).strip().splitlines()[-1]
        self._buffer.put(Finished(request.number, error))
