"""Each mistake is named first and healthy trainings are left in peace. The whole matrix: make slow."""

import pytest

from tui_lab.core.config.faults import FAULTS
from tui_lab.core.doctor.selftest.matrix import Trial, summary, trials
from tui_lab.core.doctor.selftest.reference_models import DESIGNS

WHOLE = list(trials(0))


def quick(trial: Trial) -> bool:
    """One odd shape for each fault, the tasks by turns, and one healthy case of each design."""
    if trial.fault is None:
        return trial.number == 0
    wanted = "odd reverse" if list(FAULTS).index(trial.fault) % 2 or trial.fault == "unmasked_targets" else "odd text"
    return trial.design == wanted


def test_every_fault_and_every_design_is_in_the_matrix() -> None:
    assert {trial.fault for trial in WHOLE} == {None, *FAULTS}
    names = {"reverse", "socrates", "odd reverse", "odd text", *(d.name for d in DESIGNS if d.available)}
    assert {trial.design for trial in WHOLE if trial.fault is None} == names
    assert len(WHOLE) >= 200 and len(FAULTS) >= 20


@pytest.mark.parametrize("trial", [t for t in WHOLE if quick(t)], ids=lambda t: f"{t.design}-{t.fault}")
def test_the_first_finding_names_the_fault_and_the_healthy_have_none(trial: Trial) -> None:
    row = trial.run()
    assert row.right, (row.expected, row.found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_whole_matrix(seed: int) -> None:
    found = summary([trial.run() for trial in trials(seed)])
    assert found["cases"] >= 200 and found["not_available"] == []
    assert found["misses"] == []
