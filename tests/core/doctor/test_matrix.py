"""Every fault is the first finding, and healthy runs have none. The whole matrix: make slow."""

import pytest

from tui_lab.core.config.faults import FAULTS
from tui_lab.core.doctor.selftest.matrix import Trial, summary, trials
from tui_lab.core.doctor.selftest.reference_models import REFERENCE_MODELS

WHOLE = list(trials(0))
QUICK = {"no_zero_grad": "random text"}
"""The design that is tried with a fault."""


def quick(trial: Trial) -> bool:
    """A fault, and a healthy model of torch.

    The checks have tests of their own for the other faults; tests/cli/test_doctor.py has presets, healthy and not.
    """
    if trial.fault is None:
        return trial.number == 0 and trial.design == "torch encoder"
    return trial.design == QUICK.get(trial.fault)


def test_matrix_has_every_fault_and_every_design() -> None:
    assert {trial.fault for trial in WHOLE} == {None, *FAULTS}
    names = {"reverse", "socrates", "random reverse", "random text"}
    names |= {model.name for model in REFERENCE_MODELS if model.available}
    assert {trial.design for trial in WHOLE if trial.fault is None} == names
    assert len(WHOLE) >= 200 and len(FAULTS) >= 20


@pytest.mark.parametrize("trial", [t for t in WHOLE if quick(t)], ids=lambda t: f"{t.design}-{t.fault}")
def test_first_finding_names_the_fault(trial: Trial) -> None:
    row = trial.run()
    assert row.right, (row.expected, row.findings, row.crashed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_whole_matrix(seed: int) -> None:
    figures = summary([trial.run() for trial in trials(seed)])
    assert figures["cases"] >= 200 and figures["not_available"] == []
    assert figures["misses"] == []
