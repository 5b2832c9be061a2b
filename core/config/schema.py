"""The settings of a run: frozen, bounded, documented. A front end may build its forms from these fields alone."""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tui_lab.core.config.faults import NEED_DROPOUT, ONLY_OURS, ONLY_REVERSE, FaultName
from tui_lab.util.errors import ConfigError, Problem


def setting(default: Any, title: str, help: str, *, unit: str = "", live: bool = False, **bounds: Any) -> Any:
    """A field with what a form needs: title, help, bounds, unit, and whether a running training takes it."""
    extra: dict[str, JsonValue] = {"unit": unit, "live": live}
    return Field(default, title=title, description=help, json_schema_extra=extra, **bounds)


# Nothing one counts is larger, and products of two such numbers with a batch still fit the 63 bits of numpy's.
MANY = 10**12
# From this many vocabulary entries on, the head is computed in chunks of rows and its logits are never all kept:
# at V = 50,257 and 16 × 128 tokens that halves the step. For small vocabularies the plain path is faster.
CHUNK_FROM_VOCAB = 4096


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class ModelConfig(Section):
    """The shape of the transformer. d_head × n_heads is free of d_model: W_O maps the one to the other."""

    d_model: int = setting(64, "Width", "Size of the residual stream.", unit="features", ge=1, le=65536)
    n_layers: int = setting(2, "Layers", "Attention and feed-forward pairs.", ge=1, le=1024)
    n_heads: int = setting(4, "Heads", "Attention heads in each layer.", ge=1, le=1024)
    d_head: int = setting(16, "Head size", "Size of each q, k and v.", unit="features", ge=1, le=65536)
    d_ff: int = setting(256, "Feed-forward size", "Hidden units of the ReLU layer.", unit="units", ge=1, le=2**20)
    context: int = setting(128, "Context", "Positions the model sees.", unit="tokens", ge=1, le=2**20)
    source: str = setting("", "Source", "Empty: the lab's own transformer; FILE.py:NAME: another one, which is run.")
    head_std: float = setting(
        0.02, "Head scale", "Standard deviation of the head's first weights; larger ones learn by heart sooner.",
        ge=0.0, le=1.0,
    )  # fmt: skip
    dropout: float = setting(0.0, "Dropout", "Share of activations zeroed while training.", live=True, ge=0.0, le=1.0)


class DataConfig(Section):
    """Where examples come from and in which order."""

    task: Literal["reverse", "text"] = setting("text", "Task", "Reverse rows of digits, or predict the next token.")
    path: str = setting("bundled", "Text", "“bundled”, a file, a folder or a glob (task text).", min_length=1)
    tokenizer: Literal["gpt2", "char", "digits"] = setting(
        "gpt2", "Tokenizer", "GPT-2's byte pairs, characters, or the digits of task reverse."
    )
    vocab: Literal["full", "seen"] = setting(
        "full", "Vocabulary", "All of the tokenizer's ids, or those of the training part and one for unknown."
    )
    val_fraction: float = setting(0.1, "Validation share", "Share of the data held out.", gt=0.0, lt=1.0)
    shuffle: Literal["epoch", "once", "off"] = setting(
        "epoch", "Shuffle", "A new order each epoch, one order for all epochs, or none.", live=True
    )
    overfit: int = setting(
        0, "Overfit", "Pin the first N datapoints; 0 is off.", unit="datapoints", live=True, ge=0, le=MANY
    )
    stride: int = setting(1, "Stride", "From one window's start to the next (task text).", unit="tokens", ge=1, le=MANY)
    length: int = setting(6, "Length", "Digits in a row (task reverse).", unit="digits", ge=1, le=60)
    n_digits: int = setting(10, "Digits", "Different digits (task reverse).", ge=2, le=36)


class OptimConfig(Section):
    """The optimizer and its schedule."""

    name: Literal["sgd", "momentum", "adam", "adamw", "muon"] = setting("adam", "Optimizer", "The update rule.")
    lr: float = setting(1e-3, "Learning rate", "Peak step size.", live=True, ge=0.0, le=100.0)
    betas: tuple[float, float] = setting((0.9, 0.999), "Betas", "Averaging rates of Adam's two moments.")
    momentum: float = setting(0.9, "Momentum", "Of momentum and muon.", ge=0.0, lt=1.0)
    weight_decay: float = setting(
        0.0, "Weight decay", "Pull of the weight matrices towards zero.", live=True, ge=0.0, le=100.0
    )
    schedule: Literal["constant", "cosine", "linear", "step"] = setting(
        "constant", "Schedule", "How the rate falls after warm-up."
    )
    warmup_steps: int = setting(0, "Warm-up", "Steps over which the rate rises from zero.", unit="steps", ge=0, le=MANY)
    min_lr_ratio: float = setting(0.0, "Final share", "Share of the rate left at the end.", ge=0.0, le=1.0)
    step_every: int = setting(1000, "Step length", "Steps between drops (schedule step).", unit="steps", ge=1, le=MANY)
    step_factor: float = setting(0.5, "Step factor", "Rate after a drop over rate before.", gt=0.0, le=1.0)
    grad_clip: float = setting(
        0.0, "Gradient clip", "Largest global norm of the gradient; 0 is off.", live=True, ge=0.0
    )

    @model_validator(mode="after")
    def _betas_in_range(self) -> Self:
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ConfigError.of(
                "invalid", "each must be at least 0 and less than 1", key="optim.betas", value=list(self.betas)
            )
        return self


class TrainConfig(Section):
    """How long, how much at once, and when to look."""

    steps: int = setting(1000, "Steps", "Optimizer updates in all.", unit="steps", ge=1, le=MANY)
    batch_size: int = setting(16, "Batch size", "Examples in one update.", unit="examples", live=True, ge=1, le=2**20)
    accumulate: int = setting(
        1, "Accumulate", "Parts a batch is computed in, to save memory; the gradient is the same.", ge=1, le=MANY
    )
    eval_every: int = setting(
        100, "Evaluate every", "Steps between evaluations; 0: only at the end.", unit="steps", live=True, ge=0, le=MANY
    )
    eval_examples: int = setting(1024, "Evaluated", "Validation examples used at most.", unit="examples", ge=1, le=MANY)
    patience: int = setting(
        0, "Patience", "Evaluations without a better validation loss before stopping; 0 is off.", ge=0, le=MANY
    )
    target_loss: float = setting(
        0.0, "Target loss", "Stop once the running train loss is at most this; 0 is off.", unit="nats", ge=0.0
    )
    seed: int = setting(0, "Seed", "Of weights, order and dropout.", ge=0, lt=2**63)
    threads: int = setting(0, "Threads", "CPU threads; 0 leaves the choice to torch.", ge=0, le=1024)
    matmul: Literal["auto", "blas", "onednn"] = setting(
        "auto", "Products", "The library that multiplies on the CPU; auto: the faster one, measured once."
    )
    head_rows: int = setting(
        0,
        "Head rows",
        "Rows of a large vocabulary's head computed at once; 0: the fastest.",
        unit="rows",
        ge=0,
        le=MANY,
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Device", "Where the model is computed.")
    backend: Literal["auto", "gloo", "nccl"] = setting(
        "auto", "Backend", "What carries gradients between processes that torchrun starts; auto: nccl between GPUs."
    )
    checkpoint_every: int = setting(
        0, "Checkpoint every", "Steps between checkpoints; 0: only at the end.", unit="steps", ge=0, le=MANY
    )


class Config(Section):
    """All settings of one run: four sections, and the mistakes to make on purpose."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    faults: tuple[FaultName, ...] = setting((), "Faults", "Classic mistakes, made on purpose.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = list(_contradictions(self))
        if problems:
            raise ConfigError(problems)
        return self


def _contradictions(config: Config) -> Iterator[Problem]:
    """The settings that exclude each other."""
    yield from _data_conflicts(config)
    if config.train.accumulate > config.train.batch_size:
        yield _conflict(config, "train.accumulate", "must be at most the batch size", f"1 to {config.train.batch_size}")
    if config.model.source and config.optim.name == "muon":
        yield _conflict(config, "optim.name", "needs the built-in model, but model.source is set")
    yield from _fault_conflicts(config)


def _data_conflicts(config: Config) -> Iterator[Problem]:
    data = config.data
    if (data.task == "reverse") != (data.tokenizer == "digits"):
        allowed = "digits" if data.task == "reverse" else "gpt2, char"
        yield _conflict(config, "data.tokenizer", f"does not fit task {data.task!r}", allowed)
    if data.task == "reverse" and data.vocab == "seen":
        yield _conflict(config, "data.vocab", "does not fit task 'reverse', which uses every digit", "full")
    n_inputs = 2 * data.length - 1
    if data.task == "reverse" and config.model.context < n_inputs:
        yield _conflict(
            config,
            "model.context",
            f"must be at least {n_inputs} to reverse data.length = {data.length} digits (2 × {data.length} - 1)",
        )


def _fault_conflicts(config: Config) -> Iterator[Problem]:
    for fault in config.faults:
        if fault in ONLY_OURS and config.model.source:
            yield _conflict(config, "faults", "needs the built-in model, but model.source is set", value=fault)
        if fault in NEED_DROPOUT and config.model.dropout == 0:
            yield _conflict(config, "faults", "changes nothing without dropout; set model.dropout", value=fault)
        if fault in ONLY_REVERSE and config.data.task != "reverse":
            yield _conflict(config, "faults", "needs task 'reverse', whose targets are partly ignored", value=fault)


def _conflict(config: Config, key: str, message: str, allowed: str = "", *, value: Any = None) -> Problem:
    section, _, name = key.rpartition(".")
    if value is None:
        value = getattr(getattr(config, section), name)
    return Problem(code="conflict", message=message, key=key, value=value, allowed=allowed)
