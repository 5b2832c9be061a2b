"""From a finding to the settings that fix it."""

from collections.abc import Iterable

from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Finding


def fixed(config: Config, finding: Finding) -> Config | None:
    """Return `config` without the fault that was found, or with the finding's proposal; None if no setting fixes it."""
    remaining = tuple(name for name in config.faults if FAULTS[name].finding != finding.code)
    if remaining != config.faults:
        return settings.changed(config, "faults", remaining)
    for key, value in finding.proposal.items():
        config = settings.changed(config, key, value)
    return config if finding.proposal else None


def unfixed(findings: Iterable[Finding], old: Config, new: Config) -> list[Finding]:
    """Return the findings of config `old` that the settings of `new` do not fix."""
    return [finding for finding in findings if fixed(old, finding) is None or fixed(new, finding) not in (None, new)]
