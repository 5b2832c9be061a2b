"""Which part of the data running functions work on: by the names and strings that they use for it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from types import CodeType, FrameType
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.code.call_places import CallPlace, call_place
from tui_lab.core.watch.model.tensor_memory import named_regions, region_of, smallest_whole
from tui_lab.core.watch.variables.frames import locals_of, with_callers

SPLIT_NAMES = ("split", "phase", "mode", "stage", "subset", "partition")
"""Names of the local variable in which evaluation functions keep the part of the data."""
VALIDATION = ("val", "vali", "valid", "validation", "dev", "eval", "evaluation", "held_out", "test")
"""Names of validation parts. Of several in one evaluation, the first of these counts."""
TRAINING = ("train", "training", "trn")
MAX_DEPTH = 64
"""Frames that are searched for the name of the part."""
MAX_LENGTH = 40
"""Characters of the name of a part."""
_IN_NAME = re.compile(
    r"(?<![a-z])(val|vali|valid|validation|dev|test|held_?out|hold_?out|train|training"
    r"|eval(?=_?(?:set|data|loader|dl|ds)))"
    r"(?=$|[^a-z]|set|data|loader|dl(?![a-z])|ds(?![a-z]))",
    re.IGNORECASE,
)
_INTERACTIVE = ("<stdin>", "<ipython-input")
"""How the names of what is typed in a session begin."""
_DECORATOR = "decorate_context"
"""The function of torch that calls one with a decorator such as @torch.no_grad()."""
_STEPS = {"validation_step": "val", "test_step": "test"}
"""Methods that Lightning calls with batches of these parts."""
_LOOPS = ("evaluation_loop",)
"""Methods of trainers that evaluate a validation part, unless user code passes them another."""


@dataclass(frozen=True)
class DataPart:
    """name: as the user's code has it, such as "val"; "" if it does not say.

    site: the calls that led here, if the name is unknown or only that of the result, which may be of several parts.
    """

    name: str
    site: tuple[int, ...] = ()


def is_validation(name: str) -> bool:
    """Return whether a part with this name is one for validation."""
    return name.lower() in VALIDATION


def is_training(name: str) -> bool:
    """Return whether a part with this name is the one that is trained on."""
    return name.lower().startswith("train") or name.lower() in TRAINING


def data_part(frame: FrameType | None) -> DataPart:
    """Return the part of the data that `frame` and its callers work on; the innermost function that says it counts."""
    frames = list(islice(with_callers(frame), MAX_DEPTH))
    of_user = [frame for frame in frames if _is_of_user(frame)]
    if name := _name_in_calls(frames):
        return DataPart(name)
    if any(frame.f_code.co_name in _LOOPS for frame in frames):
        return DataPart("val")
    if name := _name_of_data(of_user) or _name_of_whole(of_user):
        return DataPart(name)
    return DataPart(_name_of_result(frames), tuple(_site(of_user)))


def part_in(names: Iterable[str]) -> str:
    """Return the part that names such as "val_loader" stand for; "" if they stand for none or for several."""
    parts = {match[1].lower() for name in names if len(name) <= MAX_LENGTH for match in _IN_NAME.finditer(name)}
    validation = {"held_out" if part.startswith("h") else part for part in parts if not is_training(part)}
    if len(validation) < len(parts):
        return "" if validation else "train"
    return min(validation, key=VALIDATION.index, default="")


def _calls(frames: list[FrameType]) -> Iterator[tuple[FrameType, CallPlace, int]]:
    """Yield the functions of the user, the innermost first, with the place of the call that each makes and its depth.

    depth: 0 in the evaluation, 1 in the call of its outermost function, more further out.
    """
    depth = 0
    for frame in frames:
        if not _is_of_user(frame):
            depth += frame.f_code.co_name == _DECORATOR
            continue
        place = call_place(frame)
        yield frame, place, depth
        if depth or place.turns_gradients_off:
            depth += 2 if place.trains else 1


def _name_of_result(frames: list[FrameType]) -> str:
    """Return the part that what gets the loss is named after, in the evaluation or in the call of it."""
    for _, place, depth in _calls(frames):
        if depth > 1:
            break
        if name := part_in(place.results):
            return name
    return ""


def _is_of_user(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return is_user_code(file) or file.startswith(_INTERACTIVE)


def _name_in_calls(frames: list[FrameType]) -> str:
    """Return what the innermost function says that names a part.

    A name of the training part counts in the functions of the evaluation and in the call of the outermost of them.
    Further out, it may well be that of a training in which the evaluation takes place.
    """
    calls = list(_calls(frames))
    for number, (frame, place, depth) in enumerate(calls):
        name = _in_variables(frame, place)
        if not name and (name := _in_names(place, is_inside=depth == 0)):
            name = _as_given(name, calls[number:])
        if not name:
            name = _STEPS.get(frame.f_code.co_name, "")
        if name and not (is_training(name) and depth > 1):
            return name
    return ""


def _as_given(name: str, calls: Sequence[tuple[FrameType, CallPlace, int]]) -> str:
    """Return the part that the first of some calls is given, if its own name for it is only that of a parameter."""
    for (frame, _, _), (_, caller, _) in pairwise(calls):
        if not frame.f_code.co_name.startswith("<"):  # Of a comprehension, the function around it has the parameters.
            is_parameter = part_in(_parameters(frame.f_code)) == name
            return (part_in(caller.arguments) if is_parameter else "") or name
    return name


def _in_variables(frame: FrameType, place: CallPlace) -> str:
    """Return the string in a variable of a function that names a part."""
    code = frame.f_code
    own_names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars, *place.variables)
    variables = locals_of(frame)
    for name in SPLIT_NAMES:
        value = variables.get(name) if name in own_names else None
        if isinstance(value, str) and 0 < len(value) <= MAX_LENGTH:
            return value
    for names in (place.variables, (*_parameters(code), *code.co_freevars)):
        values = {value for name in names if isinstance(value := variables.get(name), str)}
        parts = [value for value in values if is_validation(value) or value.lower() in TRAINING]
        if len(parts) == 1:
            return parts[0]
    return ""


def _in_names(place: CallPlace, *, is_inside: bool) -> str:
    """Return the part that the arguments of a call name, or what a loop around it goes over."""
    if part := part_in(place.arguments):
        return part
    for loop in place.loops:
        part = part_in(loop.names)
        if part and (not is_training(part) or (is_inside and not loop.trains)):
            return part
    part = part_in(place.origins)
    return part if is_inside or not is_training(part) else ""


def _parameters(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _name_of_data(frames: list[FrameType]) -> str:
    """Return the part by another name of the data that a function goes over, as its caller or its module has it."""
    for number, frame in enumerate(frames):
        for value in _data_of(frame):
            names: set[str] = set()
            for outer in frames[number:]:
                for variables in (locals_of(outer), outer.f_globals):
                    names.update(name for name, other in variables.items() if other is value)
            if part := part_in(names):
                return part
    return ""


def _name_of_whole(frames: list[FrameType]) -> str:
    """Return the part that the tensor is named after from which an argument of a call was cut."""
    scopes = [(locals_of(frame), frame.f_globals) for frame in frames]
    namespaces = {id(variables): variables for scope in scopes for variables in scope}
    regions = {key: named_regions(variables) for key, variables in namespaces.items()}
    for number, (frame, (own, of_module)) in enumerate(zip(frames, scopes, strict=True)):
        keys = dict.fromkeys(id(variables) for scope in scopes[number:] for variables in scope)
        wholes = [region for key in keys for region in regions[key]]
        for name in call_place(frame).arguments:
            region = region_of(own.get(name, of_module.get(name)))
            if region is not None and (part := part_in(smallest_whole(region, wholes))):
                return part
    return ""


def _data_of(frame: FrameType) -> Iterator[Any]:
    """Yield what the parameters and loop variables of a function hold, if it may be data."""
    variables = locals_of(frame)
    for name in (*call_place(frame).variables, *_parameters(frame.f_code)):
        value = variables.get(name)
        if isinstance(value, str | int | float | None | nn.Module) or callable(value) or part_in([name]):
            continue
        yield value


def _site(frames: list[FrameType]) -> Iterator[int]:
    """Yield what differs between two calls from different places, or with different data sets."""
    for frame in frames:
        yield id(frame.f_code)
        yield frame.f_lasti
        for value in _data_of(frame):
            if isinstance(value, DataLoader | Dataset) and not isinstance(value, Tensor):
                yield id(value)
