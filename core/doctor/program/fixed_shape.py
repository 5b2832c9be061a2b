"""Does a program's model take batches of fewer rows than the program's own?"""

from dataclasses import replace

import torch

from tui_lab.core.doctor.findings import NotApplicable, NotJudged
from tui_lab.core.doctor.program.batch import n_rows
from tui_lab.core.doctor.program.target import Target, trial_rows

FEWER_ROWS = 2
"""As few as any check takes."""


def of_accepted_shape(target: Target) -> Target:
    """Return the target with `fixed_shape` if its model takes no batch of fewer rows than the program's.

    Such as a recurrent model whose state, [layers, B, H], is an argument.
    """
    try:
        whole = target.batch(0)
        fewer = trial_rows(whole, FEWER_ROWS, whole=target.fixed_shape or n_rows(whole) <= FEWER_ROWS)
    except Exception:  # The checks report it.
        return target
    if fewer is whole:
        return target
    with target.evaluating(), torch.no_grad():
        try:
            target.output(fewer)
        except (NotJudged, NotApplicable):
            return target
        except Exception:
            try:
                target.output(whole)
            except Exception:
                return target
            return replace(target, fixed_shape=True)
    return target
