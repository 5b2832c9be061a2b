"""Processes that agree on the step of a change, in any order in which they may run."""

import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch._C._distributed_c10d import HashStore

from tui_lab.core.watch.ranks.agreement import MAX_PROPOSALS, Follower, Leader, SettingChange

N_STEPS = 60
CHANGES = [SettingChange("optim.lr_factor", 2.0), SettingChange("optim.grad_clip", None)]


class Turns:
    """Runs one thread for each rank, one at a time: `take` lets a rank run until it asks for its next turn."""

    def __init__(self) -> None:
        self._go: list[threading.Semaphore] = []
        self._asked = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self.ended: set[int] = set()

    def add(self, work: Callable[[Callable[[], None]], None]) -> None:
        rank = len(self._go)
        self._go.append(threading.Semaphore(0))

        def wait() -> None:
            self._asked.release()
            self._go[rank].acquire()

        def run() -> None:
            self._go[rank].acquire()
            work(wait)
            self.ended.add(rank)
            self._asked.release()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def take(self, rank: int) -> None:
        if rank not in self.ended:
            self._go[rank].release()
            self._asked.acquire()

    def finish(self) -> Iterator[int]:
        while len(self.ended) < len(self._go):
            yield from (rank for rank in range(len(self._go)) if rank not in self.ended)
        for thread in self._threads:
            thread.join()


class Training:
    """Ranks that step; none is more than `lead` steps ahead of another, as where each step sums the gradients."""

    def __init__(self, n_ranks: int, lead: int, turn_seconds: float) -> None:
        self.made: list[list[tuple[int, SettingChange]]] = [[] for _ in range(n_ranks)]
        self.given_up: list[SettingChange] = []
        self.now = 0.0
        self._turn_seconds = turn_seconds
        self._n_steps = [0] * n_ranks
        self._lead = lead
        self._turns = Turns()
        store = HashStore()
        self._turns.add(lambda wait: self._run(0, wait, self._leading(Leader(store, n_ranks, lambda: self.now))))
        for rank in range(1, n_ranks):
            self._add_follower(store, rank)

    def _add_follower(self, store: HashStore, rank: int) -> None:
        def work(wait: Callable[[], None]) -> None:
            follower = Follower(store, rank, lambda: self.now, lambda seconds: wait())
            self._run(rank, wait, follower.stepped)

        self._turns.add(work)

    def _run(self, rank: int, wait: Callable[[], None], stepped: Callable[[], SettingChange | None]) -> None:
        for step in range(1, N_STEPS + 1):
            while step > min(self._n_steps) + self._lead:
                wait()
            self._n_steps[rank] = step
            if (change := stepped()) is not None:
                self.made[rank].append((step, change))
            wait()
        self._n_steps[rank] = 10**9

    def _leading(self, leader: Leader) -> Callable[[], SettingChange | None]:
        proposals = list(CHANGES)

        def stepped() -> SettingChange | None:
            change = leader.stepped()
            if leader.was_given_up():
                self.given_up.append(last_proposed[0])
            if proposals and leader.knows_pace and leader.is_idle and not leader.absent():
                last_proposed[0] = proposals.pop(0)
                leader.propose(last_proposed[0])
            return change

        last_proposed = [CHANGES[0]]
        return stepped

    def run(self, order: list[int]) -> None:
        def take(rank: int) -> None:
            self.now += self._turn_seconds
            self._turns.take(rank)

        for rank in order:
            take(rank)
        for rank in self._turns.finish():
            take(rank)


@given(order=st.lists(st.integers(0, 2), max_size=400), turn_seconds=st.sampled_from([1e-4, 0.01]))
def test_ranks_in_step_make_all_changes_after_the_same_steps(order: list[int], turn_seconds: float) -> None:
    training = Training(3, lead=1, turn_seconds=turn_seconds)
    training.run(order)
    assert [change for _, change in training.made[0]] == CHANGES
    assert training.made[1] == training.made[0] == training.made[2]


@given(
    order=st.lists(st.integers(0, 2), max_size=400),
    lead=st.integers(2, 40),
    turn_seconds=st.sampled_from([1e-4, 0.3, 4.0]),
)
def test_ranks_that_run_ahead_never_differ(order: list[int], lead: int, turn_seconds: float) -> None:
    """Without a wait for the gradients' sum, as on a GPU; a change may be canceled then."""
    training = Training(3, lead=lead, turn_seconds=turn_seconds)
    training.run(order)
    # The last change may be decided after the end of a rank that is ahead.
    steps = [dict(made) for made in training.made]
    for step in set().union(*steps):
        assert len({made[step] for made in steps if step in made}) == 1
        assert all(step in made for made in steps)


def leader_alone(step_seconds: float) -> tuple[Leader, Callable[[], SettingChange | None]]:
    """A leader of two processes that knows its pace, and a function that makes a step."""
    now = 0.0
    leader = Leader(HashStore(), 2, lambda: now)

    def step() -> SettingChange | None:
        nonlocal now
        now += step_seconds
        return leader.stepped()

    while not leader.knows_pace:
        step()
    return leader, step


@pytest.mark.parametrize(("step_seconds", "steps"), [(1.0, 31), (100.0, 4)])
def test_a_change_is_given_up_when_a_process_does_not_answer(step_seconds: float, steps: int) -> None:
    leader, step = leader_alone(step_seconds)
    assert leader.absent() == [1]
    leader.propose(CHANGES[0])
    for _ in range(MAX_PROPOSALS * steps - 1):
        assert step() is None and not leader.was_given_up()
    assert step() is None
    assert leader.was_given_up() and leader.is_idle


def test_a_follower_cancels_a_proposal_that_nobody_decides() -> None:
    store = HashStore()
    clock = [0.0]
    follower = Follower(store, 1, lambda: clock[0], lambda seconds: clock.__setitem__(0, clock[0] + 1.0))
    store.set("every", "1")
    follower.stepped()
    store.set("proposal/1", "")
    assert [follower.stepped() for _ in range(6)] == [None] * 6
    assert clock[0] > 10.0 and store.check(["outcome/1"])
    store.set("proposal/2", "")
    assert follower.stepped() is None
    assert store.check(["answer/2/1"])
