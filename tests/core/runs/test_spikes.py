"""Which steps are spikes: against the rule computed plainly, on losses with planted spikes, and read from a log."""

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.app.fake import update
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.spikes import Spike, SpikeDetector, SpikeIndex, read_spikes


def noisy(n: int, seed: int = 0, noise: float = 0.05) -> list[float]:
    """Return losses that fall from 4.2 towards 1.2, with Gaussian noise."""
    source = random.Random(seed)
    return [1.2 + 3.0 * 0.99**step + source.gauss(0, noise) for step in range(n)]


def events_of(losses: list[float]) -> list[ev.Event]:
    return [update(step, loss=loss) for step, loss in enumerate(losses, 1)]


def plain(losses: list[float]) -> list[int]:
    """Return the spikes of losses without a new level, by the rule as it is written."""
    steps = []
    window: list[float] = []
    was_high = False
    for step, loss in enumerate(losses, 1):
        last = np.array(window[-128:])
        is_high = False
        if len(last) >= 32:
            places = np.arange(len(last))
            line = np.polynomial.Polynomial.fit(places, last, 1)
            is_high = loss - line(len(last)) > max(7 * (last - line(places)).std(), 0.05)
        if is_high and not was_high:
            steps.append(step)
        if not is_high:
            window.append(loss)
        was_high = is_high
    return steps


def spikes_of(events: Iterable[ev.Event]) -> list[Spike]:
    detector = SpikeDetector()
    return [spike for event in events if (spike := detector.update(event)) is not None]


def steps_of(losses: list[float]) -> list[int]:
    return [spike.step for spike in spikes_of(events_of(losses))]


@pytest.mark.parametrize("seed", range(3))
def test_planted_spikes_are_found_and_nothing_else(seed: int) -> None:
    losses = noisy(900, seed)
    planted = {150: 0.7, 300: 0.6, 301: 0.8, 420: 0.6, 425: 0.9, 800: 0.6}
    for step, height in planted.items():
        losses[step - 1] += height
    assert steps_of(losses) == [150, 300, 420, 425, 800] == plain(losses)
    assert not steps_of(noisy(900, seed))


def test_even_losses_have_no_spikes_that_do_not_matter() -> None:
    losses = [1e-4] * 200 + [0.02] + [1e-4] * 200 + [0.2]
    assert steps_of(losses) == [402]


def test_a_new_level_is_one_spike_and_later_spikes_are_relative_to_it() -> None:
    losses = [1.0 + 0.01 * (step % 3) for step in range(300)] + [2.0 + 0.01 * (step % 3) for step in range(200)]
    losses[450] = 3.0
    assert steps_of(losses) == [301, 451]


def test_other_data_are_no_spike_and_other_settings_do_not_hide_one() -> None:
    losses = events_of([1.0 + 0.01 * (step % 3) for step in range(100)])
    later = [update(101, loss=2.0)]

    def after(key: str) -> list[int]:
        change = ev.Changed(step=100, key=key, old=0, new=1)
        return [spike.step for spike in spikes_of([*losses, change, *later])]

    assert after("train.batch_size") == after("data.overfit") == []
    assert after("optim.lr") == after("data.skip_examples") == [101]


def test_loss_that_is_not_finite_is_no_spike() -> None:
    detector = SpikeDetector()
    assert not any(detector.add(step, loss) for step, loss in enumerate([1.0] * 50 + [float("nan"), float("inf")], 1))


def test_log_is_read_as_its_events_are(tmp_path: Path) -> None:
    losses = noisy(500)
    losses[300] += 2
    losses[400] = float("nan")
    events = events_of(losses)
    events.insert(450, ev.Changed(step=450, key="data.overfit", old=0, new=1))
    run = Run(tmp_path)
    for _ in run.record(events):
        pass
    expected = spikes_of(events)
    assert [spike.step for spike in expected] == [301]
    assert read_spikes(run) == expected


def test_what_was_read_of_a_log_is_not_read_again_unless_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = noisy(300)
    losses[200] += 2
    losses[250] += 2
    events = events_of(losses)
    run = Run(tmp_path)
    n_added = 0
    add = SpikeDetector.add

    def counted(detector: SpikeDetector, step: int, loss: float) -> Spike | None:
        nonlocal n_added
        n_added += 1
        return add(detector, step, loss)

    index = SpikeIndex(run)
    list(run.record(events[:240]))
    monkeypatch.setattr(SpikeDetector, "add", counted)
    assert [spike.step for spike in index.read()] == [201] and n_added == 240
    list(run.record(events[240:]))
    assert [spike.step for spike in index.read()] == [201, 251] == [spike.step for spike in index.read()]
    assert n_added == 300
    lines = run.log.path.read_bytes().splitlines(keepends=True)
    run.log.path.write_bytes(b"".join(lines[:220]))
    assert [spike.step for spike in index.read()] == [201] and n_added == 520
