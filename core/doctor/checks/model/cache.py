"""Does generation with a key/value cache compute what the model computes without one?

The model's own `generate`, or `sample` and the like, runs for a few tokens, with every draw replaced by the most likely
token, and the logits of each of its passes are compared with those of a full pass over the same tokens. Models of
transformers are fed token by token with the cache that they return. Cost: two passes for each of a few tokens.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from tui_lab.core.doctor.checks.model.cache_of_generate import generate_findings
from tui_lab.core.doctor.checks.model.cache_of_library import library_cache_findings, library_model
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.generation import generating_methods
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.target import Target


def check(target: Target) -> Iterator[Finding]:
    trial = target.fresh()
    trial.model.eval()
    methods = [method for method in generating_methods(trial.model) if not _is_of_library(method)]
    of_library = library_model(trial.model)
    if not methods and of_library is None:
        raise NotApplicable("the model has no method generate and no cache of keys and values")
    with torch.no_grad(), without_dropout():
        try:
            yield from generate_findings(trial, methods)
        except (NotApplicable, NotJudged):
            if of_library is None:
                raise
            yield from library_cache_findings(trial, of_library)


def _is_of_library(method: Callable[..., Any]) -> bool:
    return str(getattr(method, "__module__", "")).startswith("transformers.")
