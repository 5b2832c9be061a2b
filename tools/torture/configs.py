"""Configs as nobody would write them on purpose: each is accepted, or refused in words.

    python -m tools.torture.configs --times 5000 --seed 0

Half of them as TOML files, half as KEY=VALUE. A failure prints the config that made it, shrunk by hypothesis.
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

from tools.torture.asked import ask
from tools.torture.limits import bounded
from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.memory_estimate import check_memory
from tui_lab.core.kernels.parameter_count import count_parameters
from tui_lab.util.errors import ConfigError

N_VOCAB = 50_257
FIELDS = settings.fields()
AGREEING = [key for key in FIELDS if key not in ("data.task", "data.tokenizer", "data.vocab", "model.source", "faults")]
"""Settings whose values do not depend on those of others, or seldom."""
OUTLANDISH = (
    "\x1b[31m", "\x1b]0;title\x07", "\x00", "\x9b1m", "[red]", "[link=x]y[/link]", "", " ", "=", "a\nb = 1", "\u202e",
    "👩\u200d👩\u200d👧", "~nobody-here/x", "x" * 5000, "[" * 3000, "9" * 5000, "0x" + "f" * 6000, "1979-13-45", "true",
    "inf", "nan", "-0.0", "1e400", "..", "/dev/zero", "/dev/tty", "bundled", "**/*",
)  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(OUTLANDISH), st.text(max_size=12), st.text(string.printable, max_size=12))


def numbers() -> st.SearchStrategy[Any]:
    """Those near a bound or beyond what a machine word holds, besides ordinary ones."""
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
    """Anything that TOML can hold."""
    return st.recursive(
        st.one_of(numbers(), texts(), st.booleans(), st.dates(), st.times()),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts(), inner, max_size=3)),
        max_leaves=6,
    )


def fitting(key: str) -> st.SearchStrategy[Any]:
    """Values that `key` may well allow."""
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
    """Mostly real ones; some a letter away, or anything."""
    real = st.sampled_from(list(FIELDS))
    near = st.builds(
        lambda key, at, c: key[:at] + c + key[at + 1 :], real, st.integers(0, 15), st.sampled_from("xX_.-0 ")
    )
    bare = real.map(lambda key: key.rpartition(".")[2])
    return st.one_of(real, real, real, near, bare, texts())


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A config file's content: up to six settings, each likely to fit."""
    found: dict[str, Any] = {}
    sane = draw(st.booleans())
    for _ in range(draw(st.integers(0, 6))):
        key = draw(st.sampled_from(AGREEING) if sane else keys())
        value = draw(fitting(key) if sane or (key in FIELDS and draw(st.integers(0, 3))) else values())
        section, _, name = key.rpartition(".")
        inner = found.setdefault(section, {}) if section else found
        if isinstance(inner, dict):
            inner[name] = value
    return found


@st.composite
def overrides(draw: st.DrawFn) -> list[str]:
    """What is given to --set, with anything for a value, or no value at all."""
    found = []
    sane = draw(st.booleans())
    for _ in range(draw(st.integers(0, 6))):
        key = draw(st.sampled_from(AGREEING) if sane else keys())
        fits = sane or (key in FIELDS and draw(st.integers(0, 3)))
        value = draw(fitting(key) if fits else st.one_of(texts(), numbers()))
        forms = [f"{key}={value}", f"{key} = {value}"] if sane else [f"{key}={value}", f"{key}={value!r}", key]
        found.append(draw(st.sampled_from(forms)))
    return found


def judge(config: Config) -> str:
    """What an accepted config must stand: it is written and read back the same, counted, and fits or is refused."""
    assert settings.build(tomllib.loads(settings.to_toml(config))) == config
    count_parameters(config.model, N_VOCAB)
    check_memory(config, N_VOCAB)
    return "accepted"


def refused(error: ConfigError) -> str:
    assert error.problems, "a refusal says why"
    for problem in str(error).splitlines():
        assert problem.strip() and len(problem) < 2000, "a message that one can read"
    return "refused"


def from_toml(content: dict[str, Any], folder: Path) -> str:
    """A config file is read; what became of it."""
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
    """Overrides are put on a preset; what became of them."""
    try:
        return judge(settings.load("reverse", given))
    except ConfigError as error:
        return refused(error)


def fuzz(times: int, seed: int) -> Counter[str]:
    """Raises what a config raised besides ConfigError, with the config; counts what became of each."""
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check = hypothesis.settings(
            max_examples=times // 2, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck), derandomize=False,
        )  # fmt: skip

        @hypothesis.seed(seed)
        @check
        @given(tables())
        def as_file(content: dict[str, Any]) -> None:
            with bounded():
                counted[f"file {from_toml(content, folder)}"] += 1

        @hypothesis.seed(seed)
        @check
        @given(overrides())
        def as_overrides(found: list[str]) -> None:
            with bounded():
                counted[f"overrides {from_overrides(found)}"] += 1

        as_file()
        as_overrides()
    return counted


if __name__ == "__main__":
    ask(__doc__, "configs", fuzz)
