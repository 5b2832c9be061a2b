"""Run under torchrun: rank 0 opens the run, writes its folder and prints; the other ranks only train."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import safetensors.torch

from tui_lab.cli.output import say
from tui_lab.cli.signals import stop_on_signals
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.runs.open_run import OpenRun
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.checkpoint import Checkpoint, Progress
from tui_lab.core.training.distributed import DistributedGroup, backend_for, process_group
from tui_lab.core.training.reproducibility import fingerprint
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer
from tui_lab.util.errors import ConfigError, DataError, Problem, RunError, TrainingError
from tui_lab.util.exit_codes import BAD_USAGE, DONE, FAILED
from tui_lab.util.strict_json import dumps

_ERRORS = (ConfigError, DataError, RunError)


def run(begin: Callable[[DistributedGroup], OpenRun], train: Callable[[OpenRun], int]) -> int:
    """Train the run that rank 0 opens with `begin`; rank 0 trains it with `train`. Return this rank's exit code.

    Only rank 0 needs the run folder and the config: it sends the others the settings and, for a resumed run, the
    weights. Every machine needs the corpus. Raises ConfigError, DataError or RunError on rank 0.
    """
    with process_group() as group:
        try:
            return _run_rank_0(group, begin, train) if group.rank == 0 else _run_other_rank(group)
        except TrainingError as error:
            say(f"training failed: {error}")
            return FAILED


def _run_rank_0(
    group: DistributedGroup, begin: Callable[[DistributedGroup], OpenRun], train: Callable[[OpenRun], int]
) -> int:
    try:
        opened = begin(group)
    except _ERRORS:
        group.broadcast(dumps(None).encode())
        raise
    _send(group, opened.trainer)
    _check_agreement(group, opened.trainer)
    return train(opened)


def _run_other_rank(group: DistributedGroup) -> int:
    trainer: Trainer | None = None
    problem = ""
    state = json.loads(group.broadcast(b""))
    if state is None:
        return BAD_USAGE
    model, optimizer = group.broadcast(b""), group.broadcast(b"")
    try:
        trainer = _build_trainer(group, state, safetensors.torch.load(model), safetensors.torch.load(optimizer))
    except _ERRORS as error:
        problem = str(error)
    try:
        _check_agreement(group, trainer, problem)
        assert trainer is not None
        return _train(group, trainer)
    except ConfigError:
        return BAD_USAGE


def _train(group: DistributedGroup, trainer: Trainer) -> int:
    with stop_on_signals(lambda: trainer.commands.put(cmd.Stop())) as interruption:
        for event in trainer.events():
            if isinstance(event, ev.Failed):
                say(f"rank {group.rank}: training failed: {event.message}")
                return FAILED
            if isinstance(event, ev.Stopped) and event.reason == "stopped":
                return interruption.exit_code
    return DONE


def _send(group: DistributedGroup, trainer: Trainer) -> None:
    """Send what `_build_trainer` needs. The weights of a new run follow from its seed; those of a resumed run do not.

    Three broadcasts: the progress as JSON, the model's and the optimizers' tensors as safetensors.
    """
    resumed = trainer.resumed
    progress = asdict(trainer.progress) | {"config": trainer.config.model_dump(mode="json")}
    group.broadcast(dumps({"resumed": resumed, "progress": progress}).encode())
    group.broadcast(safetensors.torch.save(ckpt.copy_weights(trainer.model.state_dict()) if resumed else {}))
    group.broadcast(safetensors.torch.save(ckpt.optimizer_tensors(trainer.optimizers) if resumed else {}))


def _build_trainer(
    group: DistributedGroup, state: dict[str, Any], model: ckpt.Weights, optimizer: ckpt.Weights
) -> Trainer:
    values = state["progress"]
    config = settings.build(values.pop("config"))
    task = build_task(config)
    if not state["resumed"]:
        return Trainer(set_up(config, task), save=_refuse_to_save, group=group)
    progress = replace(Progress(config), **values)
    setup = set_up(config, task, Checkpoint(progress, model, optimizer, best=None))
    return Trainer(setup, save=_refuse_to_save, saved_step=progress.step, group=group)


def _refuse_to_save(checkpoint: Checkpoint) -> str:
    raise AssertionError("only rank 0 writes")


def _check_agreement(group: DistributedGroup, trainer: Trainer | None, problem: str = "") -> None:
    """Raise ConfigError on every rank if one of them has a problem, or other data than rank 0."""
    own = {"problem": problem, "data": ""}
    if trainer is not None:
        batch = replace(trainer.loader, share=(0, 1)).batch(trainer.step)
        own["data"] = fingerprint(batch.x, batch.y)
        try:
            backend_for(trainer.config, trainer.device)
        except ConfigError as error:
            own["problem"] = str(error)
    first, *others = (json.loads(text) for text in group.all_gather(dumps(own).encode()))
    problems: list[str | Problem] = [first["problem"]] if first["problem"] else []
    for rank, other in enumerate(others, 1):
        if other["problem"]:
            if other["problem"] not in problems:
                problems.append(f"rank {rank}: {other['problem']}")
        elif other["data"] != first["data"]:
            message = "its batches differ from those of rank 0"
            allowed = "the same text at data.path on every machine, and one version of tui-lab"
            problems.append(Problem(code="conflict", key=f"rank {rank}", message=message, allowed=allowed))
    if problems:
        raise ConfigError(problems)
