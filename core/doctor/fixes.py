"""From a finding to the settings that mend it."""

from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Finding


def mended(config: Config, finding: Finding) -> Config | None:
    """`config` without the mistake that was found; None where no setting can mend it."""
    left = tuple(name for name in config.faults if FAULTS[name].finding != finding.code)
    if left != config.faults:
        return settings.changed(config, "faults", left)
    for key, value in finding.proposal.items():
        config = settings.changed(config, key, value)
    return config if finding.proposal else None
