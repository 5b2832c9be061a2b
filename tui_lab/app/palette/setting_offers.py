"""What the palette offers for `set KEY VALUE`: settings with their values and bounds, values, or what is wrong."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tui_lab.app.palette.offers import Offer
from tui_lab.app.panes.edited_settings import READ_ONLY
from tui_lab.app.panes.setting_text import (
    allowed,
    choices,
    field_of,
    format_value,
    is_live,
    keys_of,
    parse_value,
    short_value,
    value_of,
)
from tui_lab.core.config import script
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig
from tui_lab.core.runs.fork_fit import SHAPE_KEYS, misfits
from tui_lab.util.errors import ConfigError

KEY_AND_VALUE = re.compile(r"(\S+?)(?:\s*=\s*|\s+|$)(.*)", re.DOTALL)
AT_ONCE = "at the next step"
WAITS = "waits for r (restart) or f (fork)"
WAITS_FOR_RESTART = "waits for r (restart)"


@dataclass(frozen=True)
class SettingOffers:
    """config: the edited settings; None before a run is open. can_steer: whether live settings take effect at once."""

    config: Callable[[], RunConfig | None]
    can_steer: Callable[[], bool]
    apply: Callable[[str, str], object]

    def __call__(self, argument: str) -> list[Offer]:
        config = self.config()
        if config is None:
            return [Offer("set ", "the run is not open yet", is_problem=True)]
        match = KEY_AND_VALUE.match(argument)
        typed_key, text = (match[1], match[2].strip()) if match else ("", "")
        key = resolve(config, typed_key)
        if key is None and not text:
            return self._matching_keys(config, typed_key)
        if key is None:
            return [_unknown(config, typed_key)]
        return self._values(config, key, text)

    def understands(self, line: str) -> bool:
        """Return whether a line is a setting and its value, as `optim.lr 0.001`, `lr 0.001` or `lr=0.001`."""
        config = self.config()
        match = KEY_AND_VALUE.match(line)
        return config is not None and match is not None and bool(match[2]) and resolve(config, match[1]) is not None

    def _matching_keys(self, config: RunConfig, typed: str) -> list[Offer]:
        keys = [key for key in keys_of(config) if typed.lower() in key.lower()]
        # What the name begins with comes before what it only contains.
        keys.sort(key=lambda key: not _begins(key, typed.lower()))
        return [self._complete(config, key) for key in keys] or [_unknown(config, typed)]

    def _complete(self, config: RunConfig, key: str) -> Offer:
        """Offer to type a value."""
        if reason := self._why_not(config, key):
            return Offer(f"set {key}", reason, is_problem=True)
        about = f"{short_value(value_of(config, key)) or '(empty)'}   {self._when(config, key)}"
        field = field_of(config, key)
        limits = "" if field is None else allowed(key, field)
        return Offer(f"set {key} ", f"{about}   {limits}".rstrip())

    def _values(self, config: RunConfig, key: str, text: str) -> list[Offer]:
        """Offer the values that the text may mean."""
        names = choices(config, key)
        if isinstance(value_of(config, key), bool):
            names = ["true", "false"]
        if not text and not names:
            return [self._complete(config, key)]
        matching = [name for name in names if name.startswith(text.lower())]
        return [self._value(config, key, name) for name in matching or [text]]

    def _value(self, config: RunConfig, key: str, text: str) -> Offer:
        line = f"set {key} {text}"
        if reason := self._why_not(config, key):
            return Offer(line, reason, is_problem=True)
        try:
            changed = script.changed(config, key, parse_value(config, key, text))
        except ConfigError as error:
            return Offer(line, str(error.problems[0]), is_problem=True)
        old = value_of(config, key)
        new = value_of(changed, key)
        if new == old:
            return Offer(line, f"{format_value(old)} now", lambda: None)
        about = (
            f"{format_value(old) or '(empty)'} → {format_value(new) or '(empty)'}   {self._when(config, key, changed)}"
        )
        return Offer(line, about, lambda: self.apply(key, text))

    def _when(self, config: RunConfig, key: str, changed: RunConfig | None = None) -> str:
        """Return when a value takes effect. changed: the settings with it, if it was typed."""
        if self.can_steer() and is_live(config, key):
            return AT_ONCE
        if isinstance(config, Config) and isinstance(changed, Config):
            can_fork = key not in misfits(config, changed)
        else:
            can_fork = key not in SHAPE_KEYS
        return WAITS if can_fork else WAITS_FOR_RESTART

    def _why_not(self, config: RunConfig, key: str) -> str:
        return "" if isinstance(config, Config) or is_live(config, key) else READ_ONLY


def resolve(config: RunConfig, typed: str) -> str | None:
    """Return the setting that a name means: its key, or the part after the section if no other has the same."""
    keys = keys_of(config)
    if typed in keys:
        return typed
    same_name = [key for key in keys if key.rpartition(".")[2] == typed]
    return same_name[0] if len(same_name) == 1 else None


def _begins(key: str, typed: str) -> bool:
    return key.startswith(typed) or key.rpartition(".")[2].startswith(typed)


def _unknown(config: RunConfig, typed: str) -> Offer:
    try:
        script.changed(config, typed, "")
    except ConfigError as error:
        return Offer(f"set {typed}", str(error.problems[0]), is_problem=True)
    raise AssertionError(typed)
