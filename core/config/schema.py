"""The settings of a run: immutable, bounded and documented. A front end can build its forms from these fields alone."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tui_lab.core.config.faults import NEED_DROPOUT, ONLY_OURS, ONLY_REVERSE, FaultName
from tui_lab.core.config.renamed import with_current_keys
from tui_lab.util.errors import ConfigError, Problem
from tui_lab.util.plugin_registry import NAME


def setting(
    default: Any,
    title: str,
    help: str,
    *,
    unit: str = "",
    live: bool = False,
    choices: tuple[str, ...] = (),
    **bounds: Any,
) -> Any:
    """Return a field with what a form needs: title, help, bounds, unit, and whether it can be changed during training.

    choices: the names that tui-lab itself has, where plug-ins may add others.
    """
    extra: dict[str, JsonValue] = {"unit": unit, "live": live}
    if choices:
        extra["choices"] = list(choices)
    return Field(default, title=title, description=help, json_schema_extra=extra, **bounds)


# No count needs to be larger, and the product of two such numbers and a batch still fits into int64.
MANY = 10**12
# From this vocabulary size on, the head is computed in chunks of rows and its logits are never stored at once: at
# V = 50,257 and 16 × 128 tokens that halves the time of a step. For small vocabularies the plain code is faster.
CHUNK_FROM_VOCAB = 4096


TASKS = ("reverse", "text")
TOKENIZERS = ("gpt2", "char", "digits")
"""The names that tui-lab itself has; plug-ins add others. Those of plug-ins are checked by `settings.build`."""
PluginName = Annotated[str, Field(pattern=f"^{NAME}$")]
Option = bool | int | float | Annotated[str, Field(max_length=10_000)]
"""The value of a setting of a plug-in's task."""


class Section(BaseModel):
    """Base of the tables of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class ModelConfig(Section):
    """The shape of the transformer. n_heads × d_head may differ from d_model: W_O maps one to the other."""

    d_model: int = setting(64, "Width of the residual stream", "Features per token.", unit="features", ge=1, le=65536)
    n_layers: int = setting(2, "Layers", "Pairs of attention and feed-forward blocks.", ge=1, le=1024)
    n_heads: int = setting(4, "Attention heads", "Heads in each layer.", ge=1, le=1024)
    d_head: int = setting(
        16, "Width of a head", "Features of each query, key and value.", unit="features", ge=1, le=65536
    )
    d_ff: int = setting(
        256, "Width of the feed-forward layer", "Hidden units with ReLU in each layer.", unit="units", ge=1, le=2**20
    )
    context: int = setting(
        128, "Context", "Maximum number of tokens the model can attend to.", unit="tokens", ge=1, le=2**20
    )
    source: str = setting(
        "", "Model source", "Empty: the built-in transformer; FILE.py:NAME: your own model. The file is executed."
    )
    head_std: float = setting(
        0.02,
        "Initial scale of the head",
        "Standard deviation of the head's initial weights; larger values memorize sooner.",
        ge=0.0,
        le=1.0,
    )
    dropout: float = setting(
        0.0, "Dropout rate", "Fraction of activations set to zero during training.", live=True, ge=0.0, le=1.0
    )


class DataConfig(Section):
    """The examples and their order."""

    task: PluginName = setting(
        "text", "Task", "Reverse rows of digits, predict the next token, or the task of a plug-in.", choices=TASKS
    )
    path: str = setting("bundled", "Text", "“bundled”, a file, a folder or a glob (task text).", min_length=1)
    tokenizer: PluginName = setting(
        "gpt2",
        "Tokenizer",
        "GPT-2's byte pairs, characters, the digits of task reverse, or the tokenizer of a plug-in.",
        choices=TOKENIZERS,
    )
    vocab: Literal["full", "seen"] = setting(
        "full", "Vocabulary", "All tokens, or those in the training part and one for unknown tokens."
    )
    val_fraction: float = setting(0.1, "Validation fraction", "Fraction of the data held out.", gt=0.0, lt=1.0)
    shuffle: Literal["epoch", "once", "off"] = setting(
        "epoch", "Shuffle", "A new order each epoch, one order for all epochs, or none.", live=True
    )
    overfit: int = setting(
        0, "Overfit", "Train on the first N examples only; 0: off.", unit="examples", live=True, ge=0, le=MANY
    )
    stride: int = setting(
        1, "Stride", "Tokens from the start of one window to the next (task text).", unit="tokens", ge=1, le=MANY
    )
    skip_examples: tuple[Annotated[int, Field(ge=0, le=MANY)], ...] = setting(
        (),
        "Skipped examples",
        "Ids of training examples whose targets are ignored, wherever they occur in the text.",
        max_length=10_000,
    )
    length: int = setting(6, "Row length", "Digits in a row (task reverse).", unit="digits", ge=1, le=60)
    n_digits: int = setting(10, "Number of digits", "Number of distinct digits (task reverse).", ge=2, le=36)
    options: dict[PluginName, Option] = setting(
        {}, "Options of the task", "Settings of a plug-in's task, by name: data.options.NAME."
    )


class OptimConfig(Section):
    """The optimizer and its learning rate schedule."""

    name: Literal["sgd", "momentum", "adam", "adamw", "muon"] = setting(
        "adam", "Optimizer", "The algorithm that updates the weights."
    )
    lr: float = setting(1e-3, "Learning rate", "The peak learning rate of the schedule.", live=True, ge=0.0, le=100.0)
    betas: tuple[float, float] = setting(
        (0.9, 0.999), "Betas", "Decay rates of the moving averages of adam, adamw and muon."
    )
    momentum: float = setting(0.9, "Momentum", "Momentum coefficient for momentum and muon.", ge=0.0, lt=1.0)
    weight_decay: float = setting(
        0.0, "Weight decay", "Decay of the weight matrices toward zero.", live=True, ge=0.0, le=100.0
    )
    schedule: Literal["constant", "cosine", "linear", "step"] = setting(
        "constant", "Schedule", "How the learning rate falls after the warm-up."
    )
    warmup_steps: int = setting(
        0, "Warm-up", "Steps over which the learning rate rises from zero.", unit="steps", ge=0, le=MANY
    )
    min_lr_ratio: float = setting(
        0.0, "Final learning rate", "Final learning rate as a fraction of the peak.", ge=0.0, le=1.0
    )
    step_every: int = setting(
        1000, "Drop interval", "Steps between drops (schedule step).", unit="steps", ge=1, le=MANY
    )
    step_factor: float = setting(
        0.5, "Drop factor", "Factor the learning rate is multiplied by at each drop.", gt=0.0, le=1.0
    )
    grad_clip: float = setting(
        0.0, "Gradient clipping", "Maximum norm of the whole gradient; 0: off.", live=True, ge=0.0
    )

    @model_validator(mode="after")
    def _betas_in_range(self) -> Self:
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ConfigError.of(
                "invalid", "each must be at least 0 and less than 1", key="optim.betas", value=list(self.betas)
            )
        return self


class TrainConfig(Section):
    """Training length, the size of a step, and when to evaluate and save."""

    steps: int = setting(
        1000,
        "Steps",
        "Optimizer steps in total; the schedule of the learning rate ends with them.",
        unit="steps",
        live=True,
        ge=1,
        le=MANY,
    )
    batch_size: int = setting(16, "Batch size", "Examples per step.", unit="examples", live=True, ge=1, le=2**20)
    accumulate: int = setting(
        1, "Micro-batches", "Parts of a batch, computed one by one to save memory; same gradient.", ge=1, le=MANY
    )
    eval_every: int = setting(
        100,
        "Evaluation interval",
        "Steps between evaluations; 0: only at the end.",
        unit="steps",
        live=True,
        ge=0,
        le=MANY,
    )
    eval_examples: int = setting(
        1024, "Evaluation size", "Maximum number of validation examples per evaluation.", unit="examples", ge=1, le=MANY
    )
    patience: int = setting(
        0, "Patience", "Evaluations without a better validation loss before stopping; 0: off.", ge=0, le=MANY
    )
    target_loss: float = setting(
        0.0, "Target loss", "Stop when the smoothed train loss is at most this; 0: off.", unit="nats", ge=0.0
    )
    seed: int = setting(0, "Seed", "Seeds the weights, the example order and dropout.", ge=0, lt=2**63)
    threads: int = setting(0, "Threads", "CPU threads; 0: torch's default.", ge=0, le=1024)
    matmul: Literal["auto", "blas", "onednn"] = setting(
        "auto", "Matrix products", "The library for matrix products on the CPU; auto: the faster one, measured once."
    )
    row_losses: bool = setting(
        True, "Losses of the rows", "Keep the loss of each row of each step, for tui-lab explain; at most 64 MiB a run."
    )
    head_rows: int = setting(
        0,
        "Rows per chunk of the head",
        "Rows of logits computed at once for a large vocabulary; 0: the fastest.",
        unit="rows",
        ge=0,
        le=MANY,
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = setting(
        "fp32",
        "Precision",
        "Arithmetic of the matrix products; weights stay float32. auto: bf16 where it is faster, measured once. "
        "tf32: float32 with factors rounded to 10 bits on NVIDIA GPUs from Ampere on; elsewhere the same as fp32.",
    )
    compile: bool = setting(
        False,
        "Compile",
        "Compile the model with torch.compile, which takes up to a minute at the first step. For GPUs; on CPUs it is "
        "slower.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Device", "Device the model runs on.")
    backend: Literal["auto", "gloo", "nccl"] = setting(
        "auto", "Backend", "Library for gradients between torchrun's processes; auto: nccl between GPUs."
    )
    checkpoint_every: int = setting(
        0,
        "Checkpoint interval",
        "Steps between checkpoints; 0: only at the best evaluation and at the end.",
        unit="steps",
        ge=0,
        le=MANY,
    )


class Config(Section):
    """All settings of one run: four sections and the planted faults."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    faults: tuple[FaultName, ...] = setting((), "Planted faults", "Faults to plant in the run on purpose.")

    @model_validator(mode="before")
    @classmethod
    def _with_current_keys(cls, tables: Any) -> Any:
        return with_current_keys(tables) if isinstance(tables, Mapping) else tables

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = list(_contradictions(self))
        if problems:
            raise ConfigError(problems)
        return self


def _contradictions(config: Config) -> Iterator[Problem]:
    """Yield the settings that exclude each other."""
    yield from _data_conflicts(config)
    if config.train.accumulate > config.train.batch_size:
        yield _conflict(config, "train.accumulate", "must be at most the batch size", f"1 to {config.train.batch_size}")
    if config.model.source and config.optim.name == "muon":
        yield _conflict(config, "optim.name", "needs the built-in model, but model.source is set")
    yield from _fault_conflicts(config)


def _data_conflicts(config: Config) -> Iterator[Problem]:
    data = config.data
    if data.task in TASKS and (data.task == "reverse") != (data.tokenizer == "digits"):
        allowed = "digits" if data.task == "reverse" else "gpt2, char"
        yield _conflict(config, "data.tokenizer", f"does not fit task {data.task!r}", allowed)
    if data.task in TASKS and data.options:
        yield _conflict(config, "data.options", f"does not fit task {data.task!r}; only tasks of plug-ins have options")
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
