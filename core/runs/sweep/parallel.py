"""How many trials of a sweep train at once on this machine, and with how many CPU threads each. It needs no torch.

Trials with one thread each, as many as there are cores, finish more trials per minute than one trial with all threads:
a step is never faster by as many times as it has threads. On two cores, two trials with one thread made 1.9 times the
steps of one with two for `reverse`, 1.3 times for `socrates` and 1.1 times for `pseudo-socrates`, the largest preset.
So nothing is measured; memory, and trials that have to be alone, set the limit.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core.config.schema import Config
from tui_lab.core.kernels import memory_estimate
from tui_lab.util.cores import allowed_cores
from tui_lab.util.plural import counted

GAINS_FROM_THREADS = 2**24
"""Multiplications of the largest product from which a step gains from a second thread."""
PROCESS_BYTES = 400 * 2**20
"""What a process that trains trials needs besides its trial: Python, torch and Optuna."""
MEMORY_FACTOR = 2
"""How much more than the estimate, which is a lower bound, a trial may take; the largest preset takes 1.7 times."""
SHARE_OF_MEMORY = 0.8
_VOCABULARIES = {"gpt2": 50257, "char": 1024, "digits": 64}
"""The tokens of each tokenizer, at most; for characters, those of most texts."""
_VOCABULARY_OF_PLUGIN = 50257
_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Workers:
    """jobs: trials at once; threads: CPU threads of each; reason: what decided that, for display."""

    jobs: int
    threads: int
    reason: str


def usable_cores() -> int:
    """Return how many cores this process may use: those of its affinity, or fewer in a container with a quota."""
    cores = allowed_cores()
    return max(1, min(cores, _quota() or cores))


def _quota() -> int:
    """Return the cores of the container's CPU quota (cgroup v2, then v1), rounded up; 0: no quota."""
    try:
        quota, period = (_CGROUPS / "cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (_CGROUPS / "cpu" / name).read_text("ascii") for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
        except (OSError, ValueError):
            return 0
    try:
        return max(0, math.ceil(int(quota) / int(period)))  # A quota of -1 is none.
    except (ValueError, ZeroDivisionError):  # "max"
        return 0


def choose_workers(configs: Sequence[Config], trials: int, *, timed: bool) -> Workers:
    """Return the workers with which a sweep finishes the most trials per minute.

    configs: those of the trials, at least one; trials: how many there are to train; timed: whether the metric is a
    time, which other trials would disturb. `train.threads` of the configs, where it is set, is kept.
    """
    cores = usable_cores()
    fixed = max(config.train.threads for config in configs)
    if timed:
        return Workers(1, fixed or cores, "trials at the same time would disturb the time that is measured")
    if any(_may_use_gpu(config) for config in configs):
        return Workers(1, fixed or cores, "trials may share one GPU")
    needed = max(map(needed_bytes, configs))
    limits = {
        f"this process may use {counted(cores, 'core')}": max(1, cores // (fixed or 1)),
        f"there {'is' if trials == 1 else 'are'} {counted(trials, 'trial')} to train": max(1, trials),
        f"each may take {memory_estimate.size(needed)} of memory": max(1, _memory() // needed),
    }
    reason = min(limits, key=lambda text: limits[text])
    jobs = limits[reason]
    gains = max(map(_largest_product, configs)) >= GAINS_FROM_THREADS
    return Workers(jobs, fixed or (max(1, cores // jobs) if gains else 1), reason)


def workers_text(jobs: int, threads: Sequence[int], reason: str) -> str:
    """Describe workers: "2 jobs with 1 thread each: this process may use 2 cores". threads: of all trials."""
    if not any(threads):
        return counted(jobs, "job")  # A script sets its threads itself.
    spread = counted(threads[0], "thread") if len(set(threads)) == 1 else f"{min(threads)} to {max(threads)} threads"
    return f"{counted(jobs, 'job')} with {spread}{' each' if jobs > 1 else ''}{f': {reason}' if reason else ''}"


def needed_bytes(config: Config) -> int:
    """Return the memory of a process that trains `config`, at most; the weights of a user's model are not counted."""
    parts = memory_estimate.parts(config, _n_vocab(config))
    return PROCESS_BYTES + MEMORY_FACTOR * sum(part.bytes for part in parts)


def _n_vocab(config: Config) -> int:
    return _VOCABULARIES.get(config.data.tokenizer, _VOCABULARY_OF_PLUGIN)


def _memory() -> int:
    return int(SHARE_OF_MEMORY * memory_estimate.machine_bytes())


def _largest_product(config: Config) -> int:
    model = config.model
    n_out = max(model.d_ff, _n_vocab(config))
    return memory_estimate.positions(config) * model.d_model * n_out


def _may_use_gpu(config: Config) -> bool:
    """Return whether a run may train on a GPU. torch, which knows, takes seconds to import."""
    if config.train.device != "auto":
        return config.train.device != "cpu"
    return sys.platform == "darwin" or any(Path(path).exists() for path in _GPU_FILES)
