"""The first process of a watched script: it proposes changes to the others, and makes them after the same step."""

from collections import deque

import torch.distributed

from tui_lab.core import commands as cmd
from tui_lab.core.watch.ranks.agreement import Leader, SettingChange
from tui_lab.core.watch.ranks.group import shared_store
from tui_lab.core.watch.recorder import Recorder
from tui_lab.core.watch.steering.changes import ResolvedChange, ScriptChanges
from tui_lab.util.errors import ConfigError

NOT_FOLLOWED = (
    "not changed: all processes of a script must make a change together, and not all were started with "
    "`torchrun … -m tui_lab watch`"
)
NO_ANSWER = "not changed: not all processes of the script have answered in time, and all must make a change together"
NO_STORE = "not changed: the processes of the script cannot be reached"


class LeadingRank:
    """Changes wait here, one after the other, until all processes can make them."""

    def __init__(self, changes: ScriptChanges) -> None:
        self._changes = changes
        self._commands: deque[cmd.Change] = deque()
        self._leader: Leader | None = None
        self._proposed: ResolvedChange | None = None
        self._has_failed = False

    def add(self, command: cmd.Change) -> None:
        """Make this change after those that were added before."""
        self._commands.append(command)

    def stepped(self, recorder: Recorder) -> None:
        """Called after each optimizer step, when this process may go on."""
        if self._has_failed:
            self._drop(NO_STORE, recorder)
            return
        try:
            self._lead(recorder)
        except RuntimeError as error:  # What the store raises.
            self._has_failed = True
            recorder.log.warn(f"{NO_STORE}: {error}")

    def _lead(self, recorder: Recorder) -> None:
        if self._leader is None:
            store = shared_store()
            if store is None:
                return
            self._leader = Leader(store, torch.distributed.get_world_size())
        leader = self._leader
        if leader.stepped() is not None and self._proposed is not None:
            recorder.end_step()
            self._changes.make(self._proposed, recorder)
        if leader.was_given_up():
            recorder.log.warn(NO_ANSWER)
        if self._commands and leader.is_idle and leader.knows_pace:
            self._propose_next(leader, recorder)

    def _propose_next(self, leader: Leader, recorder: Recorder) -> None:
        if leader.absent():
            if leader.has_waited():
                self._drop(NOT_FOLLOWED, recorder)
            return
        while self._commands and leader.is_idle:
            try:
                change = self._changes.resolve(self._commands.popleft(), recorder)
            except ConfigError as error:
                recorder.log.warn(str(error))
                continue
            if change is not None:
                self._proposed = change
                leader.propose(SettingChange(change.key, None if change.is_own else change.new))

    def _drop(self, reason: str, recorder: Recorder) -> None:
        if self._commands:
            self._commands.clear()
            recorder.log.warn(reason)
