"""Fuzz configs: each must be accepted, or refused with a ConfigError.

    python -m tools.torture.configs --times 5000 --seed 0

Half of them are TOML files, half are KEY=VALUE overrides. A failure prints the config, minimized by hypothesis.
"""

import string
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import hypothesis
import tomli_w
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from tools.torture.command_line import run_fuzzer
from tools.torture.limits import bounded
from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.memory_estimate import check_memory
from tui_lab.core.kernels.parameter_count import count_parameters
from tui_lab.util.errors import ConfigError

N_VOCAB = 50_257
FIELDS = settings.fields()
INDEPENDENT = [
    key for key in FIELDS if key not in ("data.task", "data.tokenizer", "data.vocab", "model.source", "faults")
]
"""Settings that are rarely restricted by other settings."""
ODD_TEXTS = (
    "\x1b[31m", "\x1b]0;title\x07", "\x00", "\x9b1m", "[red]", "[link=x]y[/link]", "", " ", "=", "a\nb = 1", "\u202e",
    "👩\u200d👩\u200d👧", "~nobody-here/x", "x" * 5000, "[" * 3000, "9" * 5000, "0x" + "f" * 6000, "1979-13-45", "true",
    "inf", "nan", "-0.0", "1e400", "..", "/dev/zero", "/dev/tty", "bundled", "**/*",
)  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    """Draw texts, half of them odd."""
    return st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=12), st.text(string.printable, max_size=12))


def numbers() -> st.SearchStrategy[Any]:
    """Draw ordinary numbers, numbers near a bound and numbers beyond a machine word."""
    extreme = [
        s * (2**k + d) for k in (0, 1, 7, 16, 20, 31, 32, 40, 53, 62, 63, 64, 200) for d in (-1, 0, 1) for s in (1, -1)
    ]
    return st.one_of(
        st.integers(-2, 300),
        st.sampled_from(extreme),
        st.integers(),
        st.floats(),
        st.sampled_from([1e-300, 1e300, 0.5]),
    )


def values() -> st.SearchStrategy[Any]:
    """Draw anything that TOML can hold."""
    return st.recursive(
        st.one_of(numbers(), texts(), st.booleans(), st.dates(), st.times()),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts(), inner, max_size=3)),
        max_leaves=6,
    )


def plausible(key: str) -> st.SearchStrategy[Any]:
    """Draw values that `key` probably allows."""
    annotation = FIELDS[key].annotation
    if key == "faults":
        return st.lists(st.sampled_from(list(FAULTS)), max_size=2)
    if key == "optim.betas":
        return st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2)
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if choices:
        return st.sampled_from(choices)
    if annotation is int:
        return st.integers(1, 64)
    return st.floats(0, 1) if annotation is float else st.sampled_from(["", "bundled"])


def keys() -> st.SearchStrategy[str]:
    """Draw keys: mostly real ones, some with a typo, some any text."""
    real = st.sampled_from(list(FIELDS))
    near = st.builds(
        lambda key, at, c: key[:at] + c + key[at + 1 :], real, st.integers(0, 15), st.sampled_from("xX_.-0 ")
    )
    bare = real.map(lambda key: key.rpartition(".")[2])
    return st.one_of(real, real, real, near, bare, texts())


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the content of a config file: up to six settings, mostly with plausible values."""
    table: dict[str, Any] = {}
    sane = draw(st.booleans())
    for _ in range(draw(st.integers(0, 6))):
        key = draw(st.sampled_from(INDEPENDENT) if sane else keys())
        value = draw(plausible(key) if sane or (key in FIELDS and draw(st.integers(0, 3))) else values())
        section, _, name = key.rpartition(".")
        inner = table.setdefault(section, {}) if section else table
        if isinstance(inner, dict):
            inner[name] = value
    return table


@st.composite
def overrides(draw: st.DrawFn) -> list[str]:
    """Draw arguments of --set, with any value or none."""
    pairs = []
    sane = draw(st.booleans())
    for _ in range(draw(st.integers(0, 6))):
        key = draw(st.sampled_from(INDEPENDENT) if sane else keys())
        fits = sane or (key in FIELDS and draw(st.integers(0, 3)))
        value = draw(plausible(key) if fits else st.one_of(texts(), numbers()))
        forms = [f"{key}={value}", f"{key} = {value}"] if sane else [f"{key}={value}", f"{key}={value!r}", key]
        pairs.append(draw(st.sampled_from(forms)))
    return pairs


def judge(config: Config) -> str:
    """Check an accepted config: TOML round trip, parameter count, memory estimate. Raises ConfigError."""
    assert settings.build(tomllib.loads(settings.to_toml(config))) == config
    count_parameters(config.model, N_VOCAB)
    check_memory(config, N_VOCAB)
    return "accepted"


def refused(error: ConfigError) -> str:
    """Check that an error has problems and readable messages."""
    assert error.problems, "an error without a problem"
    for problem in map(str, error.problems):
        assert problem.strip() and len(problem) < 2000, "an empty or endless message"
    return "refused"


def from_toml(content: dict[str, Any], folder: Path) -> str:
    """Load a config file with this content; return what happened."""
    try:
        text = tomli_w.dumps(content)
    except (ValueError, TypeError, RecursionError):
        return "no TOML"
    file = folder / "config.toml"
    file.write_text(text, "utf-8", errors="surrogatepass")
    try:
        return judge(settings.load(str(file)))
    except ConfigError as error:
        return refused(error)


def from_overrides(given: list[str]) -> str:
    """Load a preset with these overrides; return what happened."""
    try:
        return judge(settings.load("reverse", given))
    except ConfigError as error:
        return refused(error)


def fuzz(times: int, seed: int) -> Counter[str]:
    """Count what happened to each config. Raises whatever a config raised other than ConfigError."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check = hypothesis.settings(
            max_examples=times // 2,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            derandomize=False,
        )

        @hypothesis.seed(seed)
        @check
        @given(tables())
        def as_file(content: dict[str, Any]) -> None:
            with bounded():
                outcomes[f"file {from_toml(content, folder)}"] += 1

        @hypothesis.seed(seed)
        @check
        @given(overrides())
        def as_overrides(pairs: list[str]) -> None:
            with bounded():
                outcomes[f"overrides {from_overrides(pairs)}"] += 1

        as_file()
        as_overrides()
    return outcomes


if __name__ == "__main__":
    run_fuzzer(__doc__, "configs", fuzz)
