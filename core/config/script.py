"""The config of a run that our trainer did not train: of a training script that was watched, or imported from logs.

Of a script, what it was and the settings that can be steered; of an imported run, what it was imported from.
"""

import math
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, JsonValue, ValidationError, field_validator
from pydantic.fields import FieldInfo

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config, Section, setting
from tui_lab.util.errors import ConfigError, Problem, nearest, shortened

LARGEST_FACTOR = 1e6
Captured = bool | int | Annotated[float, Field(allow_inf_nan=True)] | str
"""The value of a captured setting. A script may well begin with best_loss = float("inf")."""
Parallelism = Literal["none", "ddp", "sharded"]
Unit = Literal["tokens", "samples"]
"""What a run counts: the `tokens` of its steps and of its summary."""
CAPTURED = "settings."
"""Prefix of the keys of captured settings."""
BY_HAND = "by hand"
"""The `optim.name` of a script that changes its weights without a torch optimizer; no class has such a name."""
OF_OPTIMIZERS = frozenset({"optim.lr_factor", "optim.weight_decay", "optim.grad_clip"})
"""What is changed through an optimizer of torch."""
APART = (
    "the processes do not train one model together, with DistributedDataParallel or FSDP, so it cannot be changed in "
    "all of them after the same step"
)
IN_PARTS = "each process has a part of the gradient only, so clipping cannot be changed from outside"
NO_OPTIMIZER = (
    "the script changes its weights without a torch optimizer, so this cannot be changed from outside; for the rate, "
    "call run.step and run.lr of tui_lab.watch in its loop"
)


class ScriptModelConfig(Section):
    """The model of a script. None: the script has nothing of that kind, or it is not known yet."""

    name: str = setting("", "Model", "The class of the model.")
    dropout: float | None = setting(
        None, "Dropout rate", "Of all dropout layers; undo restores the script's own rates.", live=True, ge=0.0, le=1.0
    )
    context: int | None = setting(None, "Context", "Tokens in each row of x.", unit="tokens", ge=0)


class ScriptOptimConfig(Section):
    """The optimizer of a script, and what can be changed on top of it."""

    name: str = setting(
        "", "Optimizer", f"The class of the optimizer; of the first, if there are several. `{BY_HAND}`: it has none."
    )
    lr: float | None = setting(None, "Learning rate", "The rate that the script gave its optimizer.")
    lr_factor: float = setting(
        1.0,
        "Learning rate factor",
        "Multiplies the learning rate that the script sets, so that its schedule continues.",
        live=True,
        ge=0.0,
        le=LARGEST_FACTOR,
    )
    weight_decay: float | None = setting(
        None, "Weight decay", "Of the parameter groups that have any.", live=True, ge=0.0, le=LARGEST_FACTOR
    )
    grad_clip: float | None = setting(
        None, "Gradient clipping", "Maximum norm of the whole gradient; 0: off.", live=True, ge=0.0
    )

    @field_validator("grad_clip", mode="before")
    @classmethod
    def _infinite_is_off(cls, value: Any) -> Any:
        # Scripts clip to an infinite norm in order to measure it.
        return 0.0 if value == math.inf else value

    @property
    def is_by_hand(self) -> bool:
        """Whether the script changes its weights without a torch optimizer."""
        return self.name == BY_HAND


class ScriptTrainConfig(Section):
    """The length of the training, as far as the script's settings tell."""

    steps: int = setting(0, "Steps", "Optimizer steps in total; 0: unknown.", unit="steps", ge=0)
    unit: Unit = setting("tokens", "Unit", "What is counted per second.")
    processes: int = setting(1, "Processes", "As torchrun starts them.", ge=1)
    parallel: Parallelism = setting(
        "none",
        "Parallelism",
        "How several processes train one model: `ddp`: each has a copy; `sharded`: each has a part, as with FSDP; "
        "`none`: each has its own model, as far as is known.",
    )


class ScriptConfig(Section):
    """A run recorded from a script. Its keys are dotted as those of a Config, and `settings.NAME` for captured ones."""

    kind: Literal["script", "imported"] = "script"
    command: tuple[str, ...] = ()
    """The script and its arguments."""
    folder: str = ""
    """The folder in which it was started."""
    model: ScriptModelConfig = ScriptModelConfig()
    optim: ScriptOptimConfig = ScriptOptimConfig()
    train: ScriptTrainConfig = ScriptTrainConfig()
    settings: dict[str, Captured] = {}
    """The script's own settings: simple globals, parsed arguments, fields of config objects."""

    @property
    def trains_apart(self) -> bool:
        """Whether there are several processes with a model each: what one changes, the others do not."""
        return self.train.processes > 1 and self.train.parallel == "none"

    @field_validator("settings", mode="before")
    @classmethod
    def _check_settings(cls, values: Any) -> Any:
        # Pydantic would report one problem for each type that a value may have.
        for name, value in values.items() if isinstance(values, dict) else ():
            if not isinstance(value, bool | int | float | str):
                raise ConfigError.of(
                    "wrong_type",
                    "must be a number, true, false or text",
                    key=CAPTURED + shortened(str(name)),
                    value=value,
                )
        return values


class SourceConfig(Section):
    """What a run was imported from."""

    path: str = setting("", "Source", "The file or folder that was imported.")
    format: str = setting("", "Format", "The format of the source.")
    sha256: str = setting("", "SHA-256", "Of the content of the source when it was imported.")
    columns: dict[str, str] = setting({}, "Columns", "Which column or tag became which value of the run.")


class ImportedConfig(ScriptConfig):
    """A run imported from the logs of another program, which has neither a script that can be started nor weights."""

    kind: Literal["script", "imported"] = "imported"
    source: SourceConfig = SourceConfig()


_SECTIONS: dict[str, type[Section]] = {
    "model": ScriptModelConfig,
    "optim": ScriptOptimConfig,
    "train": ScriptTrainConfig,
}
_SOURCE_KEYS = ("path", "format")
"""Of the source of an imported run, what tells runs apart in a list."""
_EMPTY_WHERE_UNKNOWN = frozenset({"model.name", "model.context", "optim.name", "train.steps"})
RunConfig = Config | ScriptConfig
"""The config of any run: of our trainer, of a script, or imported."""


def is_script(tables: dict[str, Any]) -> bool:
    """Return whether TOML tables are those of a script or an imported run; the config of our trainer has no `kind`."""
    return "kind" in tables


def is_imported(config: RunConfig | None) -> bool:
    """Return whether a run was imported from a log; such a run is like one of a script that has ended."""
    return isinstance(config, ImportedConfig)


def build(tables: dict[str, Any]) -> ScriptConfig:
    """Return the config of TOML tables that have a `kind`. Raises ConfigError."""
    model = ImportedConfig if tables["kind"] == "imported" else ScriptConfig
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(settings.problems_of(error, [*model.model_fields, *keys()])) from error


def to_toml(config: ScriptConfig) -> str:
    """Return the text of the config file; a value that is not known is left out.

    The bytes of a file name that are not UTF-8 become question marks, since TOML cannot hold them.
    """
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    return text.encode("utf-8", "replace").decode("utf-8")


def keys() -> list[str]:
    """Return the keys that scripts and imported runs may have; captured settings are not among them."""
    of_sections = [f"{section}.{name}" for section, kind in _SECTIONS.items() for name in kind.model_fields]
    return of_sections + [f"source.{name}" for name in _SOURCE_KEYS]


def values_of(config: RunConfig) -> dict[str, Any]:
    """Return every setting of a run by its dotted key."""
    if isinstance(config, Config):
        return {key: settings.get(config, key) for key in settings.keys_of(config)}
    captured = {CAPTURED + name: value for name, value in config.settings.items()}
    if isinstance(config, ImportedConfig):
        steps = {"train.steps": config.train.steps} if config.train.steps else {}
        return {f"source.{name}": getattr(config.source, name) for name in _SOURCE_KEYS} | steps | captured
    values: dict[str, Any] = {}
    for section in _SECTIONS:
        for name, value in getattr(config, section):
            if value is not None:
                values[f"{section}.{name}"] = value
    if config.optim.is_by_hand:
        del values["optim.lr_factor"]
    if config.train.processes == 1:
        del values["train.processes"], values["train.parallel"]
    return values | captured


def known_values(config: RunConfig) -> dict[str, Any]:
    """As `values_of`, without the settings of a script that are not known yet: names and counts that are empty."""
    values = values_of(config)
    if isinstance(config, Config):
        return values
    return {key: value for key, value in values.items() if value or key not in _EMPTY_WHERE_UNKNOWN}


def find(config: RunConfig, key: str) -> Any:
    """Return the value of a dotted key; None where the run has no such setting or it is not known."""
    if isinstance(config, Config):
        return settings.get(config, key) if settings.exists(key) else None
    return known_values(config).get(key)


def unit_of(config: RunConfig) -> Unit:
    """Return what the run counts per second."""
    return "tokens" if isinstance(config, Config) else config.train.unit


def live_keys(config: RunConfig) -> list[str]:
    """Return the settings that can be changed while this run trains. What a script does not have is not among them."""
    if isinstance(config, Config):
        return [key for key in settings.fields() if settings.is_live(key)]
    return [key for key in values_of(config) if _is_live(key) and not _why_fixed(config, key)]


def not_live(config: RunConfig, key: str) -> Problem:
    """Return why a setting cannot be changed while this run trains."""
    if reason := _why_fixed(config, key):
        return Problem(code="unavailable", message=reason, key=key)
    return Problem(code="needs_restart", message="cannot change while training; it needs a restart", key=key)


def get(config: RunConfig, key: str) -> Any:
    """Return the value of a dotted key. Raises ConfigError where the run has no such setting."""
    values = values_of(config)
    if key not in values:
        raise ConfigError(_unknown_key(config, key))
    return values[key]


def bounds(config: RunConfig, key: str) -> tuple[float, float]:
    """Return the smallest and the largest value of `key`, which exists; infinite where there is no bound."""
    if isinstance(config, Config):
        return settings.bounds(key) if key in settings.fields() else (-math.inf, math.inf)
    return (-math.inf, math.inf) if key.startswith(CAPTURED) else settings.limits_of(_field(key))


def changed(config: RunConfig, key: str, value: Any) -> RunConfig:
    """Return a copy of `config` with another value of `key`, validated again. Raises ConfigError."""
    if isinstance(config, Config):
        return settings.changed(config, key, value)
    if key not in values_of(config):
        raise ConfigError(_unknown_key(config, key))
    tables: dict[str, JsonValue] = config.model_dump(exclude_none=True)
    section, _, name = key.partition(".")
    table = tables[section]
    assert isinstance(table, dict)
    table[name] = value
    return build(tables)


def _is_live(key: str) -> bool:
    if key.startswith(CAPTURED):
        return False
    extra = _field(key).json_schema_extra
    return bool(isinstance(extra, dict) and extra["live"])


def _field(key: str) -> FieldInfo:
    section, _, name = key.partition(".")
    return (SourceConfig if section == "source" else _SECTIONS[section]).model_fields[name]


def _lacks_optimizer(config: RunConfig, key: str) -> bool:
    return isinstance(config, ScriptConfig) and config.optim.is_by_hand and key in OF_OPTIMIZERS


def _why_fixed(config: RunConfig, key: str) -> str:
    """Return why a live setting cannot be changed in this run; empty if it can."""
    if not isinstance(config, ScriptConfig):
        return ""
    if _lacks_optimizer(config, key):
        return NO_OPTIMIZER
    if config.trains_apart:
        return APART
    return IN_PARTS if config.train.parallel == "sharded" and key == "optim.grad_clip" else ""


def _unknown_key(config: RunConfig, key: str) -> Problem:
    if _lacks_optimizer(config, key):
        return not_live(config, key)
    values = values_of(config)
    # A name without its section: `dropout` for `model.dropout`.
    full_key = next((full for full in values if full.partition(".")[2] == key), "")
    suggestion = full_key or nearest(key, values)
    return Problem(code="unknown_key", message="this run has no such setting", key=key, suggestion=suggestion)
