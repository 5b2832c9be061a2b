"""Generate from several runs with one prompt, one run after the other, in a thread."""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import ReplyFinished, ReplyMessage, ReplyStarted, ReplyText
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.runs.folder import Run
from tui_lab.runs.answers import new_tokens
from tui_lab.util.errors import ConfigError, DataError, RunError
from tui_lab.util.escape import printable

TOKENS_OF_TEXT = 120


@dataclass(frozen=True)
class Prompt:
    """What every run continues. max_new_tokens: 0 for the length of a task's answer, or `TOKENS_OF_TEXT`."""

    text: str
    sampling: Sampling
    max_new_tokens: int = 0


class MultiRunGeneration:
    """Hold one model in memory at a time; `drain` returns the messages. A new prompt ends the one before."""

    def __init__(self) -> None:
        self._buffer = Buffer[ReplyMessage]()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def drain(self) -> list[ReplyMessage]:
        return self._buffer.drain()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def start(self, prompt: Prompt, runs: Sequence[Path]) -> None:
        """Generate from each run; later messages about the prompt before are dropped."""
        self.stop()
        self._stop = threading.Event()
        self._buffer = Buffer[ReplyMessage]()
        arguments = (prompt, tuple(runs), self._stop, self._buffer, self._thread)
        self._thread = threading.Thread(target=_work, args=arguments, name="generation", daemon=True)
        self._thread.start()


def _work(
    prompt: Prompt,
    runs: tuple[Path, ...],
    stop: threading.Event,
    buffer: Buffer[ReplyMessage],
    earlier: threading.Thread | None,
) -> None:
    if earlier is not None:
        earlier.join()
    for path in runs:
        if stop.is_set():
            return
        error = None
        try:
            for message in _reply(prompt, Run(path), stop.is_set):
                buffer.put(message)
        except (ConfigError, DataError, RunError) as problem:
            error = str(problem)
        except BaseException:  # Code of the user may even call sys.exit().
            error = traceback.format_exc(limit=1).strip().splitlines()[-1]
        buffer.put(ReplyFinished(path, error))


def _reply(prompt: Prompt, run: Run, stop: Callable[[], bool]) -> Iterator[ReplyStarted | ReplyText]:
    """Load a run's weights and generate from them."""
    from tui_lab.core.inference.generate import generate
    from tui_lab.core.inference.load_model import load_chosen

    chosen, model, tokenizer = load_chosen(run)
    yield ReplyStarted(run.path, chosen.description)
    tokens = generate(
        model,
        tokenizer,
        prompt.text,
        max_new_tokens=prompt.max_new_tokens or new_tokens(chosen.config, prompt.text, TOKENS_OF_TEXT),
        sampling=prompt.sampling,
        n_alternatives=0,
        stop=stop,
    )
    for generated in tokens:
        yield ReplyText(run.path, printable(generated.text))
