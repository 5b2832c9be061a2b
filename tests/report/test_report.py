"""The report: one file, which tells what the run told, and asks nothing of anybody."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.command_line import RunCli
from tests.core.recorded import STARTED, evaluated, recorded, update
from tests.core.tiny import tiny, trainer_and_run
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import write_notes
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import summarize
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep import plan
from tui_lab.core.runs.sweep.folder import Result, Sweep
from tui_lab.report import page
from tui_lab.report.chart import overlay_chart
from tui_lab.report.report_data import gather
from tui_lab.report.run_report import report
from tui_lab.report.sweep_report import sweep_report
from tui_lab.util.escape import printable

EVIL = "</style><script>alert(1)</script><img src=http://x.test/a.png>\x1b[2J"


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, its text, and whatever it would fetch."""

    ALONE = ("meta", "link", "img", "br")

    def __init__(self, whole: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.asked: list[str] = []
        self.policy = ""
        self.feed(whole)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.ALONE:
            self.open.append(tag)
        given = dict(attrs)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.asked += re.findall(r"url\(([^)]*)\)", " ".join(value or "" for value in given.values()))
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.ALONE:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def elsewhere(self) -> list[str]:
        """Addresses outside the page."""
        return [address for address in self.asked if not address.startswith(("#", "data:"))]


def of(run: Run, *prompts: str) -> Reader:
    return Reader(report(gather(run, prompts)))


@pytest.fixture
def trained(tmp_path: Path) -> Run:
    """A run with weights, evaluations and a live change."""
    training, run = trainer_and_run(tmp_path / "tiny", "train.steps=12", "train.eval_every=4")
    changed = ev.Changed(step=6, key="optim.lr", old=0.01, new=0.005)
    told = (event for step in training.events() for event in ([step, changed] if step.step == 6 else [step]))
    run.write_summary(summarize(run.record(told)).summary(str(run.path)))
    return run


def test_a_report_tells_what_the_run_told(trained: Run) -> None:
    write_notes(trained.path, ["keep"], "“the first”")
    found = of(trained)
    assert not found.open and not found.elsewhere and "script" not in found.tags
    assert "default-src 'none'" in found.policy and "style-src 'unsafe-inline'" in found.policy
    summary = trained.summary()
    assert summary is not None
    for words in (
        f"{summary.best_val_loss:.4f}", "trained to its last step, step 12 of 12", "keep", "“the first”",
        "optim.lr", "0.005", "train, running mean", "validation", f"best {summary.best_val_loss:.4f}",
        "ln V, a uniform guess", "initialisation", "processor", "Trained on cpu with 1 threads",
    ):  # fmt: skip
        assert words in found.text, words
    assert re.search(r"d_model 8 \(default 64\)", found.text) and "momentum 0.9 (default" not in found.text
    assert re.search(r"\d{3} \d{3} (right|wrong: it should be \d{3})", found.text)


def test_prompts_of_the_reader_take_the_place_of_held_out_examples(trained: Run) -> None:
    found = of(trained, "021", "43")
    assert "should be" not in found.text and re.search(r"021\d{3}", found.text) and re.search(r"43\d{3}", found.text)


def test_nothing_that_a_run_says_is_markup(tmp_path: Path) -> None:
    told = [
        STARTED,
        update(1),
        ev.Warned(step=1, message=EVIL),
        ev.Changed(step=1, key=EVIL, old=EVIL, new=EVIL),
        ev.Failed(step=1, message=EVIL),
    ]
    run = recorded(tmp_path / "x<b>&amp;", told, config=tiny("data.path=<i>"), summary=False)
    write_notes(run.path, ["<b>"], EVIL)
    found = of(run, EVIL)
    whole = report(gather(run, [EVIL]))
    assert not {"script", "img", "b", "i"} & set(found.tags) and not found.elsewhere and not found.open
    assert "\x1b" not in whole and r"\x1b[2J" in found.text
    assert found.text.count("<script>alert(1)</script>") >= 5 and "x<b>&amp;" in found.text


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_text_is_read_as_it_was_written(words: str) -> None:
    shown = Reader(page.element("p", page.text(words), title=words))
    assert shown.tags == ["p"] and not shown.open
    assert "".join(shown.words).removesuffix("\n") == printable(words)


def test_a_report_says_why_it_cannot_tell_something(tmp_path: Path) -> None:
    no_weights = of(recorded(tmp_path / "a"))
    assert "this run has no checkpoint yet" in no_weights.text
    gone = of(recorded(tmp_path / "b", config=tiny("data.task=text", "data.tokenizer=char", "data.path=/nowhere/x")))
    assert gone.text.count("The data are not as they were") == 2
    other = of(recorded(tmp_path / "c", config=tiny("model.source=/nowhere/mine.py:MyGPT")))
    assert other.text.count("a report runs nobody's code") == 2
    nothing = of(recorded(tmp_path / "d", []))
    assert "No update is recorded." in nothing.text and "interrupted" in nothing.text


def test_what_the_watchers_notice_stands_in_the_report(tmp_path: Path) -> None:
    worse = [evaluated(10 * n + 10, 2.0 + n, best=n == 0, since_best=n) for n in range(5)]
    told = [event for look in worse for event in (*map(update, range(look.step - 9, look.step + 1)), look)]
    found = of(recorded(tmp_path / "a", [STARTED, *told]))
    assert "Validation worsens while training improves." in found.text and "noticed nothing" not in found.text
    assert "noticed nothing" in of(recorded(tmp_path / "b")).text


def test_the_command_writes_one_file(run_cli: RunCli, tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    assert run_cli("report", run.path, "--to", tmp_path / "new" / "a.html").out == f"{tmp_path / 'new' / 'a.html'}\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.html"]
    whole = (tmp_path / "new" / "a.html").read_text("utf-8")
    run_cli("runs", "export", run.path, "--to", tmp_path / "b.html")
    assert (tmp_path / "b.html").read_text("utf-8").splitlines()[:5] == whole.splitlines()[:5]
    done = run_cli("report", run.path, "--to", tmp_path / "a.pdf")
    assert done.code == 2 and "a.pdf" in done.err and not (tmp_path / "a.pdf").exists()


@pytest.mark.slow
def test_a_browser_asks_nothing_of_the_network(trained: Run, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser is installed")
    file = tmp_path / "report.html"
    file.write_text(report(gather(trained, [])), "utf-8")
    asked, said, refused = list[str](), list[str](), list[str]()
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            shown = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
            shown.on("request", lambda request: asked.append(request.url))
            shown.on("console", lambda message: said.append(message.text))
            shown.on("pageerror", lambda error: said.append(str(error)))
            shown.goto(file.as_uri(), wait_until="networkidle")
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone scrolls sideways"
            assert shown.locator("figure svg path").count() > 3
        assert set(asked) <= {file.as_uri(), "data:,"} and said == []
        # Nor would anything be let through that got into the page.
        shown.on("requestfailed", lambda request: refused.append(f"{request.url} {request.failure}"))
        with shown.expect_event("requestfailed"):
            shown.evaluate("() => { new Image().src = 'http://127.0.0.1:9/x.png' }")
        browser.close()
    assert len(refused) == 1 and "csp" in refused[0].casefold()


def swept(path: Path) -> Sweep:
    """Three trials of two seeds: the second point is the better one, the third failed."""
    over = ("optim.lr=0.1,0.2,0.3", "model.dropout=0.0")
    made = sweeps.create(plan.plan("reverse", [], over, {"seeds": 2, "metric": "train_loss"}), path)
    for number, value in enumerate([3.0, 2.5, 1.0, 1.5]):
        run = recorded(made.folder(number), [STARTED, update(1, 3.0), update(2, value)])
        made.write_result(number, Result("done", value, summary=run.summary()))
    made.write_result(4, Result("failed", message=EVIL))
    return made


def test_a_sweep_is_told_by_rank_with_its_curves_and_failures(tmp_path: Path) -> None:
    whole = sweep_report(swept(tmp_path / "swept"))
    found = Reader(whole)
    assert not found.open and not found.elsewhere and not {"script", "img"} & set(found.tags)
    assert "6 trials over" in found.text and "4 done, 1 failed, 1 waiting" in found.text
    assert "<script>alert(1)</script>" in found.text and "\x1b" not in whole
    trials = [element for element in re.findall(r"<tr>(.*?)</tr>", whole, re.DOTALL) if ">done<" in element]
    assert [re.sub(r"<[^>]*>|\s+", " ", line).split()[1] for line in trials] == ["2", "3", "1", "0"]
    assert re.search(r"1\.2500 0\.3536", found.text), "mean and deviation over seeds"
    drawn = sorted(set(re.findall(r"var\((--s\d+)\)", whole)))
    assert drawn == ["--s0", "--s1"] and all(whole.count(f"{name}:") == 3 for name in drawn)


def test_the_command_reports_on_a_sweep_by_name(run_cli: RunCli, tmp_path: Path) -> None:
    swept(runs.runs_folder() / "grid")
    assert run_cli("report", "grid", "--to", tmp_path / "grid.html").code == 0
    assert "grid: report of a sweep" in (tmp_path / "grid.html").read_text("utf-8")
    assert run_cli("report", "grid", "--to", tmp_path / "g.html", "--prompt", "1").code == 2


@pytest.mark.parametrize(
    "names",
    [
        ["lr=0.1", "lr=0.2", "lr=0.3"],
        [f"lr={lr} dropout={rate}" for lr in (0.1, 0.2) for rate in (0.0, 0.5)],
        [f"lr={lr} dropout={rate}" for lr in range(6) for rate in (0.0, 0.5)],
    ],
)
def test_each_curve_of_a_sweep_has_a_colour_of_its_own_in_light_and_in_dark(names: list[str]) -> None:
    svg, style = overlay_chart({name: ((1.0, 2.0), (2.0, 1.0)) for name in names}, label="loss")
    light, dark, printed = (re.findall(r"--s\d+: (#\w{6});", part) for part in style.split("@media"))
    assert len(set(light)) == len(set(dark)) == len(names) and printed == light
    assert all(f"var(--s{i})" in svg for i in range(len(names)))
