"""The cache of a model of transformers, which takes it and returns it."""

import inspect
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from tui_lab.core.doctor.checks.model.cache_finding import CacheDifference, cache_finding
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.program.target import Target

CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""What transformers calls the cache that a forward pass takes and returns: from version 5.20, before, and of Mamba."""


SOURCE_NAMES = ("input_ids", "attention_mask", "inputs_embeds", "input_features", "input_values", "pixel_values")
"""What an encoder-decoder of transformers reads in addition to the decoder's ids."""


def library_model(model: nn.Module) -> nn.Module | None:
    """Return the first module of transformers' that maps ids to logits and takes and returns a cache."""
    for module in model.modules():
        parameters = set(inspect.signature(module.forward).parameters)
        is_of_library = any(cls.__module__.startswith("transformers.") for cls in type(module).__mro__)
        has_ids = bool({"input_ids", "decoder_input_ids"} & parameters)
        if is_of_library and has_ids and {"use_cache", "labels"} <= parameters and parameters.intersection(CACHE_NAMES):
            return module
    return None


def library_cache_findings(target: Target, model: nn.Module) -> Iterator[Finding]:
    """Judge a model of transformers. Raises NotJudged if it cannot be called with its cache."""
    try:
        yield from _continued(target, model)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise NotJudged(f"the model cannot be continued with its cache: {error}") from error


def _continued(target: Target, model: nn.Module) -> Iterator[Finding]:
    """Continue the first half of each row token by token."""
    name, ids, source = _library_call(target, model)
    T = ids.shape[1]
    if T < 3:
        raise NotApplicable("rows are too short to continue them")
    n_prompt = T // 2
    cache_name = next(each for each in CACHE_NAMES if each in inspect.signature(model.forward).parameters)
    with Precision() as precision:
        full = model(**source, **{name: ids}).logits
        output = model(**source, **{name: ids[:, :n_prompt]}, use_cache=True)
        for number, end in enumerate(range(n_prompt, T)):
            cache = getattr(output, cache_name, None)
            if cache is None:
                raise NotApplicable("the model returns no cache")
            relative = relative_difference(output.logits[:, -1], full[:, end - 1])
            if relative > precision.allowed:
                yield cache_finding(CacheDifference(number, end, relative))
                return
            output = model(**source, **{name: ids[:, end : end + 1], cache_name: cache}, use_cache=True)


def _library_call(target: Target, model: nn.Module) -> tuple[str, Tensor, dict[str, Any]]:
    """Return the name of the ids that are continued, the ids [B, T] of the probe, and the source of the decoder."""
    signature = inspect.signature(model.forward)
    if "decoder_input_ids" not in signature.parameters:
        return "input_ids", target.probe.x[:2], {}
    calls: list[dict[str, Any]] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(signature.bind_partial(*args, **kwargs).arguments), with_kwargs=True
    )
    try:
        target.output(target.probe.batch)
    finally:
        handle.remove()
    arguments = {key: value for call in calls[:1] for key, value in call.items() if value is not None}
    ids = arguments.get("decoder_input_ids")
    if ids is None and "labels" in arguments and hasattr(model, "prepare_decoder_input_ids_from_labels"):
        ids = model.prepare_decoder_input_ids_from_labels(labels=arguments["labels"])  # type: ignore[operator]
    if ids is None:
        raise NotApplicable("the decoder is not called with ids")
    return "decoder_input_ids", ids, {key: arguments[key] for key in SOURCE_NAMES if key in arguments}
