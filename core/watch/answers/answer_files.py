"""Answers to the commands Generate, Attend and LookInside: files that the process with the model writes.

A generation is a file of JSON lines, one a token; its last line is {"done": true, "error": …}. Attention maps are one
safetensors file, which appears when it is complete; so is a look inside (`inside_answers.py`). The process
that asked removes the file.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.sampling import Generated
from tui_lab.core.runs.run_files import ANSWERS
from tui_lab.util import files
from tui_lab.util.errors import LabError
from tui_lab.util.lazy_adapter import LazyAdapter
from tui_lab.util.strict_json import dumps, loads

MAX_ANSWER = 2**26
"""Bytes of a generation, at most."""
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_GENERATED: LazyAdapter[Generated] = LazyAdapter(Generated)


@dataclass
class GenerationAnswer:
    """What has been generated so far. step: of the weights; error: why it ended early, or None."""

    step: int | None = None
    tokens: list[Generated] = field(default_factory=list)
    done: bool = False
    error: str | None = None


def is_valid_id(answer_id: str) -> bool:
    """Return whether `answer_id` can name a file."""
    return _ID.fullmatch(answer_id) is not None


def write_generation(folder: Path, answer_id: str, step: int, tokens: Iterable[Generated]) -> None:
    """Append each token as it comes, then the end; an exception of `tokens` becomes the error. Raises OSError."""
    path = path_of(folder, answer_id, ".jsonl")
    error = None
    with path.open("w", encoding="utf-8", buffering=1) as out:
        out.write(dumps({"step": step}) + "\n")
        try:
            for token in tokens:
                out.write(dumps(asdict(token)) + "\n")
        except Exception as failure:
            error = str(failure) if isinstance(failure, LabError) else f"{type(failure).__name__}: {failure}"
        out.write(dumps({"done": True, "error": error}) + "\n")


def read_generation(folder: Path, answer_id: str) -> GenerationAnswer:
    """Return the answer so far; empty if there is none yet. Raises OSError or ValueError."""
    answer = GenerationAnswer()
    path = folder / ANSWERS / f"{answer_id}.jsonl"
    if not path.is_file():
        return answer
    for line in files.read_text(path, MAX_ANSWER).splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        record = loads(line)
        if "done" in record:
            answer.done = True
            answer.error = record["error"]
        elif "step" in record:
            answer.step = int(record["step"])
        else:
            answer.tokens.append(_GENERATED.validate_python(record))
    return answer


def write_attention(folder: Path, answer_id: str, maps: AttentionMaps | str) -> None:
    """Write attention maps, or why there are none. Raises OSError."""
    path = path_of(folder, answer_id, ".safetensors")
    if isinstance(maps, str):
        files.write_bytes(path, save({}, {"error": maps}))
        return
    numbers = {"length": str(maps.length), "block": str(maps.block)}
    files.write_bytes(path, save({"weights": np.ascontiguousarray(maps.weights, np.float32)}, numbers))


def read_attention(folder: Path, answer_id: str) -> AttentionMaps | str | None:
    """Return the maps, or why there are none; None if there is no answer yet. Raises OSError or ValueError."""
    path = folder / ANSWERS / f"{answer_id}.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as content:
            metadata = content.metadata() or {}
            if "error" in metadata:
                return str(metadata["error"])
            weights = content.get_tensor("weights")
            weights.flags.writeable = False
            return AttentionMaps(weights, int(metadata["length"]), int(metadata["block"]))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"damaged: {path}") from error


def remove(folder: Path, answer_id: str) -> None:
    """Remove an answer that has been read."""
    for suffix in (".jsonl", ".safetensors"):
        (folder / ANSWERS / f"{answer_id}{suffix}").unlink(missing_ok=True)


def path_of(folder: Path, answer_id: str, suffix: str) -> Path:
    """Return the file of an answer, in a folder that exists. Raises ValueError for a name that is not an id."""
    if not is_valid_id(answer_id):
        raise ValueError(f"not the id of an answer: {answer_id!r}")
    (folder / ANSWERS).mkdir(exist_ok=True)
    return folder / ANSWERS / f"{answer_id}{suffix}"
