"""Generate text from a copy of the weights, in a thread, while the model trains."""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import (
    GenerationFinished,
    GenerationMessage,
    GenerationStarted,
    TokenGenerated,
    WeightsCopied,
    WeightsNotCopied,
)
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.inference.sampling import Sampling
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt and how to continue it. `number` identifies the reply's messages."""

    number: int
    prompt: str
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int


class GenerationThread:
    """Answer one request at a time; a new one ends the one before. `drain` returns the messages.

    `send` takes commands to the trainer.
    """

    def __init__(self, send: Callable[[cmd.Command], None]) -> None:
        self._send = send
        self._buffer = Buffer[GenerationMessage]()
        self._stop = threading.Event()

    def drain(self) -> list[GenerationMessage]:
        return self._buffer.drain()

    def stop(self) -> None:
        self._stop.set()

    def copy_weights(self, *, at_evaluation: bool) -> None:
        """Ask the trainer for a copy of its weights, now or after its next evaluation, for `drain`."""

        def receive(weights: "dict[str, Tensor]", info: cmd.WeightsInfo) -> None:
            self._buffer.put(WeightsCopied(info, weights))

        def refuse(reason: str) -> None:
            self._buffer.put(WeightsNotCopied(reason))

        self._send(cmd.Snapshot(receive, at_evaluation, refuse))

    def start(
        self, request: GenerationRequest, config: Config, tokenizer: Tokenizer, copied: WeightsCopied | None = None
    ) -> None:
        """Generate with copied weights, or ask the trainer for its present ones, and generate once they come."""
        self.stop()
        stop = self._stop = threading.Event()

        def receive(weights: "dict[str, Tensor]", info: cmd.WeightsInfo) -> None:
            self._buffer.put(GenerationStarted(request.number, info))
            arguments = (request, config, tokenizer, weights, stop)
            threading.Thread(target=self._work, args=arguments, name="generation", daemon=True).start()

        def refuse(reason: str) -> None:
            self._buffer.put(GenerationFinished(request.number, reason))

        if copied is not None:
            receive(copied.weights, copied.info)
        else:
            self._send(cmd.Snapshot(receive, refuse=refuse))

    def _work(
        self,
        request: GenerationRequest,
        config: Config,
        tokenizer: Tokenizer,
        weights: "dict[str, Tensor]",
        stop: threading.Event,
    ) -> None:
        from tui_lab.core.inference.generate import generate
        from tui_lab.core.training.model_factory import build_model

        error = None
        try:
            model = build_model(config, tokenizer.n_vocab)
            model.load_state_dict(weights)
            sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
            tokens = generate(
                model,
                tokenizer,
                request.prompt,
                max_new_tokens=request.max_new_tokens,
                sampling=sampling,
                stop=stop.is_set,
            )
            for generated in tokens:
                self._buffer.put(TokenGenerated(request.number, generated))
        except (ConfigError, DataError) as problem:
            error = str(problem)
        except BaseException:  # Code of the user may even call sys.exit().
            error = traceback.format_exc(limit=1).strip().splitlines()[-1]
        self._buffer.put(GenerationFinished(request.number, error))
