"""Answers to the command LookInside: a safetensors file with the measurement, and the rows that it is of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tui_lab.core.inside.results import Ablation, Ids, LogitLens, LookResult, PartLosses, StreamNorms
from tui_lab.core.runs.run_files import ANSWERS
from tui_lab.core.watch.answers.answer_files import path_of
from tui_lab.util import files
from tui_lab.util.strict_json import dumps, loads

Arrays = dict[str, npt.NDArray[Any]]
_FACTS = ("step", "seconds", "batch_step", "n_rows", "n_classes", "class_names")
_LENS = ("top", "probabilities", "target_probabilities", "losses", "ranks")
_NORMS = ("stream", "attention", "feed_forward")
_LOSSES = ("heads", "attention", "feed_forward")


@dataclass(frozen=True)
class InsideAnswer:
    """What was measured of a row with the weights of `step`, in `seconds`.

    batch_step, n_rows: the step of the batch, counted from 0, and how many rows it has. x, y: int64 [R, T] of the first
    of them, y -1 where the target is ignored or not known. n_classes, class_names: as in RecordedBatch.
    """

    step: int
    seconds: float
    batch_step: int
    n_rows: int
    x: Ids
    y: Ids
    result: LookResult
    n_classes: int = 0
    class_names: tuple[str, ...] = ()


def write_inside(folder: Path, answer_id: str, answer: InsideAnswer) -> None:
    """Write an answer. Raises OSError."""
    arrays: Arrays = {"x": answer.x, "y": answer.y}
    facts: dict[str, Any] = {name: getattr(answer, name) for name in _FACTS}
    match result := answer.result:
        case str():
            facts["unavailable"] = result
        case LogitLens():
            facts |= {"look": "lens", "places": result.places, "read_out": result.read_out}
            arrays |= {name: getattr(result, name) for name in _LENS}
        case StreamNorms():
            facts |= {"look": "norms", "places": result.places}
            arrays |= {name: getattr(result, name) for name in _NORMS}
        case Ablation():
            facts |= {"look": "ablation", "layers": result.layers, "how": result.how, "n_others": result.n_others}
            for group, losses in (("example", result.example), ("others", result.others)):
                arrays[f"{group}.base"] = np.array([losses.base])
                arrays |= {f"{group}.{name}": getattr(losses, name) for name in _LOSSES}
    content = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    files.write_bytes(path_of(folder, answer_id, ".safetensors"), save(content, {"facts": dumps(facts)}))


def read_inside(folder: Path, answer_id: str) -> InsideAnswer | None:
    """Return an answer; None if there is none yet. Raises OSError or ValueError."""
    path = folder / ANSWERS / f"{answer_id}.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as content:
            facts = loads((content.metadata() or {})["facts"])
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        for array in arrays.values():
            array.flags.writeable = False
        return InsideAnswer(
            int(facts["step"]),
            float(facts["seconds"]),
            int(facts["batch_step"]),
            int(facts["n_rows"]),
            arrays["x"],
            arrays["y"],
            _result(facts, arrays),
            int(facts["n_classes"]),
            tuple(facts["class_names"]),
        )
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"damaged: {path}") from error


def _result(facts: dict[str, Any], arrays: Arrays) -> LookResult:
    if "unavailable" in facts:
        return str(facts["unavailable"])
    match facts["look"]:
        case "lens":
            return LogitLens(tuple(facts["places"]), str(facts["read_out"]), *(arrays[name] for name in _LENS))
        case "norms":
            return StreamNorms(tuple(facts["places"]), *(arrays[name] for name in _NORMS))
        case _:
            example, others = (
                PartLosses(float(arrays[f"{group}.base"][0]), *(arrays[f"{group}.{name}"] for name in _LOSSES))
                for group in ("example", "others")
            )
            return Ablation(tuple(facts["layers"]), facts["how"], example, others, int(facts["n_others"]))
