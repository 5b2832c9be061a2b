"""Trials on a Ray cluster: each trains in a folder of its node, which comes back whole into the sweep's.

The cluster is that of RAY_ADDRESS, else one on this machine. The lab must be installed on every node, and a corpus
must be there under the same path. This process claims the trials, so the sweep's folder need not be shared.
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
from tui_lab.core.runs.folder import SUMMARY
from tui_lab.core.runs.sweep import study as studies
from tui_lab.core.runs.sweep.folder import Result, Row, Sweep
from tui_lab.core.runs.sweep.study import Claim
from tui_lab.util import files
from tui_lab.util.extras import require
from tui_lab.util.strict_json import dumps

RETRIES = 3
"""Times that Ray gives a trial to another node when its own dies."""
Remote = tuple[Result, bytes]
"""What comes back: a Result, and the run folder as a tar."""


def require_ray() -> None:
    """Raise ConfigError, naming the extra, if Ray is not installed."""
    require("ray", extra="ray", feature="--engine ray")


class RayEngine:
    """At most `jobs` trials of one sweep at once on a cluster; None: as many as it has processors for."""

    def __init__(self, sweep: Sweep, jobs: int | None) -> None:
        # Nothing is told to anybody on the network.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray, self._sweep = ray, sweep
        self._threads = int(sweep.plan.base["train"]["threads"]) or 1
        if not ray.is_initialized():
            alone = {} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False}
            ray.init(log_to_driver=False, logging_level="ERROR", **alone)
        processors = int(ray.cluster_resources().get("CPU", 1))
        self._jobs = jobs or max(1, processors // self._threads)
        self._train = ray.remote(train_remotely).options(num_cpus=self._threads, max_retries=RETRIES)
        self._stack = contextlib.ExitStack()
        self._study = self._stack.enter_context(studies.opened(sweep))
        self._claims: dict[Any, Claim] = {}
        self._stopping = False

    @property
    def busy(self) -> bool:
        return bool(self._claims)

    def tend(self, rows: Sequence[Row]) -> None:
        self._take_in()
        while not self._stopping and len(self._claims) < self._jobs and (claim := self._study.claim()) is not None:
            plan = self._sweep.plan
            tables = plan.tables(claim.number)
            self._claims[self._train.remote(plan.name, tables, plan.metric)] = claim

    def _take_in(self) -> None:
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
            return Result("failed", message=f"Ray: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        result, packed = received
        folder = self._sweep.folder(claim.number)
        if packed:
            unpack(packed, folder)
        summary = result.summary and result.summary.model_copy(update={"run": str(folder)})
        return replace(result, summary=summary)

    def stop(self) -> None:
        """A trial on another machine saves nothing here: what has not ended begins anew next time."""
        self._stopping = True
        self.kill()

    def kill(self) -> None:
        self._take_in()
        for reference, claim in self._claims.items():
            self._ray.cancel(reference, force=True)
            claim.release()
        self._claims.clear()

    def close(self) -> None:
        self._stack.close()
        self._ray.shutdown()


def train_remotely(name: str, tables: dict[str, Any], metric: str) -> Remote:
    """On a node: train a trial in a folder of its own, and hand the folder back."""
    from tui_lab.sweep.trial import Stopper, train_trial

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        result = train_trial(name, lambda: settings.build(tables), folder, metric, Stopper())
        return result or Result("failed", message="stopped"), pack(folder) if folder.exists() else b""


def pack(folder: Path) -> bytes:
    """A folder as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder, arcname=".")
    return out.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """A run folder from a tar, whole or not at all; its summary names the folder it is in now."""
    with files.new_folder(folder) as temporary, tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        # No links, no paths to elsewhere, no owners.
        tar.extractall(temporary, filter="data")
        path = temporary / SUMMARY
        if path.exists():
            summary = json.loads(path.read_text("utf-8")) | {"run": str(folder)}
            path.write_text(dumps(summary, indent=1) + "\n", "utf-8")
