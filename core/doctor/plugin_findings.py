"""Findings of plug-ins: made by `finding`, and named after the plug-in before they enter a report."""

from dataclasses import replace
from typing import Any, Literal, cast

from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Finding, FindingCode, Kind
from tui_lab.util.plugin_registry import Plugin


def finding(
    code: str,
    title: str,
    *,
    evidence: str,
    why: str,
    fix: str,
    kind: Kind = "finding",
    location: str = "",
    proposal: dict[str, Any] | None = None,
) -> Finding:
    """Return a finding of a plug-in. The report names it NAME/code, where NAME is that of the entry point.

    title: what is wrong, in one sentence. evidence: what was measured. why: why it matters. fix: what to do. kind:
    "finding" where a healthy program never has it, "hint" for a suspicion. location: "train.py:42". proposal: settings
    (dotted keys) that would fix it.
    """
    return Finding(
        code=cast(FindingCode, code),
        title=title,
        evidence=evidence,
        why=why,
        fix=fix,
        kind=kind,
        location=location,
        proposal=proposal or {},
    )


def named(plugin: Plugin, value: object, kind: Literal["hint"] | None = None) -> Finding:
    """Return what a plug-in yielded, with its name before the code. kind: instead of its own.

    Raises PluginError for what is not a finding, or proposes a setting that does not exist.
    """
    if not isinstance(value, Finding):
        raise plugin.error(f"yielded a {type(value).__name__}, not a Finding")
    for key in value.proposal:
        if not settings.exists(key):
            raise plugin.error(f"proposes {key!r}, which is not a setting")
    code = cast(FindingCode, f"{plugin.name}/{value.code}")
    return replace(value, code=code, kind=kind or value.kind)
