"""A process that is not recorded makes the changes that the first one proposes."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.distributed.distributed_c10d import Store

from tui_lab.core.watch.ranks.agreement import Leader, SettingChange
from tui_lab.core.watch.ranks.following_rank import FollowingRank

LR = 0.5


@pytest.fixture
def following(monkeypatch: pytest.MonkeyPatch) -> Iterator[FollowingRank]:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    followed = FollowingRank.start()
    yield followed
    followed.remove()


class Training:
    """A loop over one weight whose gradient is 2. The leader steps in the same process, after each step of the loop."""

    def __init__(self, leader: Leader) -> None:
        self.linear = nn.Linear(1, 1, bias=False)
        self.dropout = nn.Dropout(0.5)
        self.model = nn.Sequential(self.linear, self.dropout)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, weight_decay=0.0)
        self._leader = leader

    def update(self, *, clips: bool = False) -> float:
        """Make a step; return by how much the weight falls."""
        weight = self.linear.weight
        torch.nn.init.zeros_(weight)  # So that the change is not rounded to the digits of a large weight.
        weight.grad = torch.full_like(weight, 2.0)
        if clips:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._leader.stepped()
        return -weight.item()

    def change(self, change: SettingChange) -> None:
        """Propose a change, and make steps until it is made."""
        self._leader.propose(change)
        while not self._leader.is_idle:
            self.update()


@pytest.fixture
def training(store: Store, following: FollowingRank) -> Training:
    leader = Leader(store, 2)
    loop = Training(leader)
    while not leader.knows_pace:
        assert loop.update() == pytest.approx(LR * 2)
    loop.update()
    assert leader.absent() == []
    return loop


def test_it_makes_the_changes_in_its_optimizer(training: Training) -> None:
    training.change(SettingChange("optim.lr_factor", 0.25))
    assert training.update() == pytest.approx(LR * 2 / 4)
    assert training.optimizer.param_groups[0]["lr"] == LR
    training.change(SettingChange("optim.grad_clip", 0.5))
    assert training.update() == pytest.approx(LR * 0.5 / 4, rel=1e-4)
    assert training.update(clips=True) == pytest.approx(LR * 0.5 / 4, rel=1e-4)
    training.change(SettingChange("optim.lr_factor", None))
    training.change(SettingChange("optim.grad_clip", None))
    assert training.update() == pytest.approx(LR * 2)
    training.change(SettingChange("model.dropout", 0.0))
    assert training.dropout.p == 0.0
    training.change(SettingChange("model.dropout", None))
    assert training.dropout.p == 0.5


def test_only_given_optimizers_are_steered(training: Training, following: FollowingRank) -> None:
    training.change(SettingChange("optim.lr_factor", 0.25))
    following.optimizers = [torch.optim.SGD([nn.Parameter(torch.ones(1))])]
    assert training.update() == pytest.approx(LR * 2)


def test_a_lost_store_keeps_what_is_in_force(training: Training, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """The first process keeps it, too."""
    training.change(SettingChange("optim.lr_factor", 0.25))

    def lost(self: object, keys: list[str]) -> bool:
        raise torch.distributed.DistStoreError("connection reset")

    monkeypatch.setattr(type(store), "check", lost)
    assert [training.update(), training.update()] == pytest.approx(2 * [LR * 2 / 4])


def test_it_starts_once(following: FollowingRank) -> None:
    assert FollowingRank.start() is following
