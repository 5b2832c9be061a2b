"""Trials on a Ray cluster: each trains in a temporary folder of its node, which is copied back into the sweep's.

The cluster is the one at RAY_ADDRESS, or a new one on this machine. tui-lab must be installed on every node, and a
corpus must have the same path there. This process claims the trials, so the sweep's folder need not be shared.
"""

import contextlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.runs.run_files import SUMMARY
from tui_lab.core.runs.sweep import study as studies
from tui_lab.core.runs.sweep.folder import Result, Sweep, TrialRow
from tui_lab.core.runs.sweep.study import Claim
from tui_lab.util import files
from tui_lab.util.extras import require
from tui_lab.util.strict_json import dumps

RETRIES = 3
"""How often Ray moves a trial to another node when its node dies."""
Remote = tuple[Result, bytes]
"""What a node returns: the result, and the run folder as a tar archive."""


def require_ray() -> None:
    """Raise ConfigError, naming the extra, if Ray is not installed."""
    require("ray", extra="ray", feature="--engine ray")


class RayEngine:
    """At most `jobs` trials of one sweep at once on a cluster; None: as many as its CPUs allow."""

    def __init__(self, sweep: Sweep, jobs: int | None) -> None:
        # Ray must not send usage statistics.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        self._sweep = sweep
        self._threads = int(sweep.plan.base["train"]["threads"]) or 1
        if not ray.is_initialized():
            options = {} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False}
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        cpus = int(ray.cluster_resources().get("CPU", 1))
        self._jobs = jobs or max(1, cpus // self._threads)
        self._train = ray.remote(train_remotely).options(num_cpus=self._threads, max_retries=RETRIES)
        self._stack = contextlib.ExitStack()
        self._study = self._stack.enter_context(studies.opened(sweep))
        self._claims: dict[Any, Claim] = {}
        self._stopping = False

    @property
    def busy(self) -> bool:
        return bool(self._claims)

    def tend(self, rows: Sequence[TrialRow]) -> None:
        self._collect()
        while not self._stopping and len(self._claims) < self._jobs and (claim := self._study.claim()) is not None:
            plan = self._sweep.plan
            tables = plan.tables(claim.number)
            self._claims[self._train.remote(plan.name, tables, plan.metric)] = claim

    def _collect(self) -> None:
        ready, _ = (
            self._ray.wait(list(self._claims), num_returns=len(self._claims), timeout=0) if self.busy else ([], [])
        )
        for reference in ready:
            claim = self._claims.pop(reference)
            try:
                claim.finish(self._received(claim, reference))
            finally:
                claim.release()

    def _received(self, claim: Claim, reference: Any) -> Result:
        try:
            received: Remote = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            return Result("failed", message=": ".join(["Ray", type(error).__name__, *lines[:1]]))
        result, packed = received
        folder = self._sweep.folder(claim.number)
        if packed:
            unpack(packed, folder)
        summary = result.summary and result.summary.model_copy(update={"run": str(folder)})
        return replace(result, summary=summary)

    def stop(self) -> None:
        """Cancel the trials: one on another machine saves nothing here, so it starts again next time."""
        self._stopping = True
        self.kill()

    def kill(self) -> None:
        """Cancel the trials that have not ended, and release all, whatever goes wrong with one of them."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._claims.clear)
            for reference, claim in self._claims.items():
                stack.callback(claim.release)
                stack.callback(self._ray.cancel, reference, force=True)
            self._collect()

    def close(self) -> None:
        self._stack.close()
        self._ray.shutdown()


def train_remotely(name: str, tables: dict[str, Any], metric: str) -> Remote:
    """Train a trial in a temporary folder of a node, and return the folder's content."""
    from tui_lab.sweep.stopper import Stopper
    from tui_lab.sweep.trial import train_trial

    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        result = train_trial(name, lambda: settings.build(tables), folder, metric, Stopper())
        return result or Result("failed", message="stopped"), pack(folder) if folder.exists() else b""


def pack(folder: Path) -> bytes:
    """Return a folder as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder, arcname=".")
    return out.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write a run folder from a tar archive, all of it or nothing; the path in its summary becomes `folder`."""
    with files.new_folder(folder) as temporary, tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        # The filter refuses links, paths outside the folder, and owners.
        tar.extractall(temporary, filter="data")
        path = temporary / SUMMARY
        if path.exists():
            summary = json.loads(path.read_text("utf-8")) | {"run": str(folder)}
            path.write_text(dumps(summary, indent=1) + "\n", "utf-8")
