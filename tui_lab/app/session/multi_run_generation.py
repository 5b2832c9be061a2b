"""Several runs go on from one prompt, one after the other, in a thread of its own."""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.session.buffer import Buffer
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import ConfigError, DataError, RunError
from tui_lab.util.escape import printable


@dataclass(frozen=True)
class Song:
    """What all are asked. max_new_tokens: 0 as many as a run's task answers with, `FOR_TEXT` where it is text."""

    prompt: str
    sampling: Sampling
    max_new_tokens: int = 0


FOR_TEXT = 120


@dataclass(frozen=True)
class Voice:
    """One piece of what a run says. kind: "whose" names the weights that speak, "text" goes on, "end" is the end, or an
    error."""

    run: Path
    kind: str
    text: str = ""


class Chorus:
    """Lets one run speak at a time, so that one model is in memory; `drain` gives Voices. A new song ends the old."""

    def __init__(self) -> None:
        self._buffer = Buffer()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def drain(self) -> list[object]:
        return self._buffer.drain()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def ask(self, song: Song, runs: Sequence[Path]) -> None:
        """What an earlier song still says is dropped."""
        self.stop()
        stop = self._stop = threading.Event()
        before, self._buffer = self._thread, Buffer()
        work = (song, tuple(runs), stop, self._buffer, before)
        self._thread = threading.Thread(target=_sing, args=work, name="chorus", daemon=True)
        self._thread.start()


def _sing(
    song: Song, runs: tuple[Path, ...], stop: threading.Event, buffer: Buffer, before: threading.Thread | None
) -> None:
    if before is not None:
        before.join()
    for path in runs:
        if stop.is_set():
            return
        error = ""
        try:
            for kind, text in _said(song, Run(path), stop.is_set):
                buffer.put(Voice(path, kind, text))
        except (ConfigError, DataError, RunError) as problem:
            error = str(problem)
        except Exception:
            error = traceback.format_exc(limit=1).strip().splitlines()[-1]
        buffer.put(Voice(path, "end", error))


def _said(song: Song, run: Run, stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """The kinds and texts of what a run says."""
    from tui_lab.core.inference.generate import generate
    from tui_lab.core.inference.load_model import load_chosen

    chosen, model, tokenizer = load_chosen(run)
    yield "whose", chosen.words
    answers = len(song.prompt) if chosen.config.data.task == "reverse" else FOR_TEXT
    told = generate(
        model, tokenizer, song.prompt, max_new_tokens=song.max_new_tokens or answers, sampling=song.sampling,
        n_alternatives=0, stop=stop,
    )  # fmt: skip
    for made in told:
        yield "text", printable(made.text)
