"""The tasks by name: tui-lab's own, and those of plug-ins, whose examples are checked before they are used."""

import json

import numpy as np

from tui_lab.data.corpora.encode import load_corpus
from tui_lab.data.dataset import IGNORED, Dataset, MakeTask, Task, TaskSettings
from tui_lab.data.tasks.reverse import reverse_task
from tui_lab.data.tasks.text import text_task
from tui_lab.data.tokenizers import Tokenizer, from_state
from tui_lab.util import plugin_registry
from tui_lab.util.errors import DataError, LabError, nearest
from tui_lab.util.plugin_registry import Plugin, PluginError

CHECKED_EXAMPLES = 16
"""Of each part of a plug-in's task: the first, the last, and others evenly spaced."""


def make_task(name: str, settings: TaskSettings) -> Task:
    """Return the task of this name. Raises DataError, and PluginError for a plug-in that does not work."""
    if name in OWN_TASKS:
        return OWN_TASKS[name](settings)
    plugin = plugin_registry.find("tasks", name)
    if plugin is None:
        names = [*OWN_TASKS, *plugin_registry.names("tasks")]
        raise DataError.of(
            "unknown_name",
            "no installed package has this task",
            key="data.task",
            value=name,
            allowed=", ".join(names),
            suggestion=nearest(name, names),
        )
    make = plugin.load()
    try:
        task = make(settings)
        _check(plugin, task, settings.context)
    except LabError:
        raise
    except Exception as error:
        raise plugin.error("the task cannot be made", error) from error
    checked: Task = task
    return checked


def _reverse(settings: TaskSettings) -> Task:
    return reverse_task(length=settings.length, n_digits=settings.n_digits, val_fraction=settings.val_fraction)


def _text(settings: TaskSettings) -> Task:
    return text_task(
        load_corpus(settings.path, settings.tokenizer, settings.progress),
        context=settings.context,
        stride=settings.stride,
        val_fraction=settings.val_fraction,
        vocab=settings.vocab,
    )


OWN_TASKS: dict[str, MakeTask] = {"reverse": _reverse, "text": _text}


def _check(plugin: Plugin, task: object, context: int) -> None:
    """Raise PluginError for what is not a task, or has examples of another shape, type or range."""
    if not isinstance(task, Task):
        raise plugin.error(f"returned a {type(task).__name__}, not a Task")
    if task.metric not in ("exact_match", "perplexity"):
        raise plugin.error(f"its metric is {task.metric!r}, not exact_match or perplexity")
    for part, dataset in (("training", task.train), ("validation", task.val)):
        if dataset.n_examples < 1:
            raise plugin.error(f"it has no {part} examples")
        if not 1 <= dataset.length <= context:
            raise DataError.of(
                "conflict",
                f"the rows of {plugin.label} have {dataset.length} tokens",
                key="model.context",
                value=context,
                allowed=f"at least {dataset.length}",
            )
        _check_examples(plugin, part, dataset, task.tokenizer.n_vocab)
    _check_tokenizer(plugin, task.tokenizer)


def _check_tokenizer(plugin: Plugin, tokenizer: Tokenizer) -> None:
    """Raise PluginError unless the tokenizer comes back from the state that a run folder keeps."""
    try:
        rebuilt = from_state(json.loads(json.dumps(tokenizer.state())))
    except PluginError:
        raise
    except DataError as error:
        hint = "; register its class under tui_lab.tokenizers" if error.code == "unknown_name" else ""
        raise plugin.error(f"its tokenizer cannot be made again from its state(): {error}{hint}") from error
    if (rebuilt.n_vocab, rebuilt.state()) != (tokenizer.n_vocab, tokenizer.state()):
        raise plugin.error("its tokenizer differs from the one made again from its state()")


def _check_examples(plugin: Plugin, part: str, dataset: Dataset, n_vocab: int) -> None:
    n = min(CHECKED_EXAMPLES, dataset.n_examples)
    x, y = dataset.examples(np.linspace(0, dataset.n_examples - 1, n).round().astype(np.int64))
    expected = f"int64 [{n}, {dataset.length}]"
    for name, tokens, lowest in (("x", x, 0), ("y", y, IGNORED)):
        form = f"{tokens.dtype} {list(tokens.shape)}" if isinstance(tokens, np.ndarray) else type(tokens).__name__
        if form != expected:
            raise plugin.error(f"{name} of {n} {part} examples is {form}, not {expected}")
        if tokens.min() < lowest or tokens.max() >= n_vocab:
            ids = f"{tokens.min()} to {tokens.max()}"
            allowed = f"{lowest} to {n_vocab - 1}"
            raise plugin.error(f"{name} of the {part} examples holds {ids}, and allowed are {allowed}")
    if not (y != IGNORED).any():
        raise plugin.error(f"all targets of the {part} examples are ignored")
