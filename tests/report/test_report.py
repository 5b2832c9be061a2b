"""HTML reports: complete, escaped, and self-contained."""

import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.command_line import CliError, RunCli
from tests.core.recorded import STARTED, Ending, evaluated, recorded, recorded_script, script_config, update
from tests.core.runs.importing.reading import SAMPLES, sources
from tests.core.tiny import tiny, trainer_and_run
from tests.non_finite import OVERFLOW
from tui_lab.core import events as ev
from tui_lab.core.config.script import Unit
from tui_lab.core.nonfinite.record import BatchRow, TensorRange
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import write_notes
from tui_lab.core.runs.code import CodeFile, GitState, LeftOut, RecordedCode, write_code
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.importing.write_run import write_run
from tui_lab.core.runs.summary import summarize
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep import plan
from tui_lab.core.runs.sweep.folder import Result, Sweep
from tui_lab.report.chart import overlay_chart
from tui_lab.report.code_section import MOST_FILES
from tui_lab.report.render import environment
from tui_lab.report.report_data import gather
from tui_lab.report.run_report import run_report
from tui_lab.report.sweep_report import sweep_report
from tui_lab.runs.figures import figure_text
from tui_lab.util.escape import printable

EVIL = "</style><script>alert(1)</script><img src=http://x.test/a.png>\x1b[2J"


class Page(HTMLParser):
    """A page as a browser parses it: its elements, its text, and the addresses it would request."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.policy = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.addresses += [values[name] for name in ("src", "href", "xlink:href", "action") if name in values]
        self.addresses += re.findall(r"url\(([^)]*)\)", " ".join(values.values()))
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if tag in ("td", "th"):
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def requests(self) -> list[str]:
        """Addresses outside the page."""
        return [address for address in self.addresses if not address.startswith(("#", "data:"))]


def page_of(run: Run, *prompts: str) -> Page:
    return Page(run_report(gather(run, prompts)))


@pytest.fixture
def trained(tmp_path: Path) -> Run:
    """A run with weights, evaluations and a live change."""
    training, run = trainer_and_run(tmp_path / "tiny", "train.steps=12", "train.eval_every=4")
    changed = ev.Changed(step=6, key="optim.lr", old=0.01, new=0.005)
    events = (event for step in training.events() for event in ([step, changed] if step.step == 6 else [step]))
    run.write_summary(summarize(run.record(events)).summary(str(run.path)))
    return run


@pytest.mark.usefixtures("both_widths")
def test_report_shows_the_run(trained: Run) -> None:
    write_notes(trained.path, ["keep"], "“the first”")
    page = page_of(trained)
    assert not page.open and not page.requests and "script" not in page.tags
    assert "default-src 'none'" in page.policy and "style-src 'unsafe-inline'" in page.policy
    summary = trained.summary()
    assert summary is not None
    best = figure_text("best_val_loss", summary.best_val_loss)
    assert not re.search(r"<th[^>]*></th>", run_report(gather(trained, []))), "every column has a name"
    shown = ["step 12 of 12", "keep", "“the first”", "optim.lr", "0.005", f"best {best}", "ln V", "processor"]
    assert [text for text in shown if text not in page.text] == []
    assert re.search(r"d_model 8 \(default 64\)", page.text) and "momentum 0.9 (default" not in page.text
    assert re.search(r"of the (best|last) weights, of step \d+\.", page.text), "which weights replied"
    assert re.search(r"\d{3} \d{3} (right|wrong: it should be \d{3})", page.text)


def test_randomness_knows_a_live_change_of_dropout(tmp_path: Path) -> None:
    changed = ev.Changed(step=144, key="model.dropout", old=0.0, new=0.05)
    run = recorded(tmp_path / "run", [STARTED, changed, update(145, 2.0)])
    sources = gather(run, []).sources
    assert isinstance(sources, tuple)
    [dropout] = [source for source in sources if source.name == "dropout"]
    assert "144" in dropout.draws


@pytest.mark.usefixtures("without_charts")
def test_prompts_replace_the_held_out_examples(trained: Run) -> None:
    page = page_of(trained, "021", "43")
    assert "should be" not in page.text
    assert re.search(r"021 \d{3}", page.text) and re.search(r"43 \d{3}", page.text)


def test_nothing_of_a_run_is_markup(tmp_path: Path) -> None:
    events = [
        STARTED,
        update(1),
        ev.Warned(step=1, message=EVIL),
        ev.Changed(step=1, key=EVIL, old=EVIL, new=EVIL),
        ev.Failed(step=1, message=EVIL),
    ]
    run = recorded(tmp_path / "x<b>&amp;", events, config=tiny("data.path=<i>"), summary=False)
    write_notes(run.path, ["<b>"], EVIL)
    source = run_report(gather(run, [EVIL]))
    page = Page(source)
    assert not {"script", "img", "b", "i"} & set(page.tags) and not page.requests and not page.open
    assert "\x1b" not in source and r"\x1b[2J" in page.text
    assert page.text.count("<script>alert(1)</script>") >= 5 and "x<b>&amp;" in page.text


@settings(max_examples=50)
@given(st.text())
def test_templates_escape_every_text(text: str) -> None:
    template = environment().from_string('<p title="{{ text }}">{{ text }}</p>')
    page = Page(template.render(text=text))
    assert page.tags == ["p"] and not page.open
    assert "".join(page.texts) == printable(text)


@pytest.mark.usefixtures("without_charts")
def test_sections_without_data_show_the_reason(tmp_path: Path) -> None:
    assert "this run has no checkpoint yet" in page_of(recorded(tmp_path / "a")).text
    no_data = recorded(tmp_path / "b", config=tiny("data.task=text", "data.tokenizer=char", "data.path=/nowhere/x"))
    assert page_of(no_data).text.count("/nowhere/x") == 3, "in samples, randomness and settings"
    user_model = recorded(tmp_path / "c", config=tiny("model.source=/nowhere/mine.py:MyGPT"))
    assert page_of(user_model).text.count("user code (/nowhere/mine.py:MyGPT)") == 2
    assert "No steps recorded." in page_of(recorded(tmp_path / "d", [])).text


@pytest.mark.usefixtures("without_charts")
def test_findings_of_the_monitors_are_in_the_report(tmp_path: Path) -> None:
    worse = [evaluated(10 * n + 10, 2.0 + n, best=n == 0, since_best=n) for n in range(5)]
    events = [event for look in worse for event in (*map(update, range(look.step - 9, look.step + 1)), look)]
    data = gather(recorded(tmp_path / "a", [STARTED, *events]), [])
    assert data.findings and data.findings[0].title in Page(run_report(data)).text
    assert not gather(recorded(tmp_path / "b"), []).findings


ORIGIN = replace(
    OVERFLOW,
    module="h.1.mlp",
    module_type="MLP",
    inputs=(TensorRange(name="weight", dtype="float16", shape=(8, 4), low=-2.0, high=6e4),),
    output=TensorRange(name="output", dtype="float16", shape=(8, 4), low=None, high=None, n_inf=3, n_nan=29),
    rows=(BatchRow(row=2, example=71, positions=(5, 6), text=f"to be\n{EVIL}"),),
)


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("is_script", [False, True])
def test_what_became_non_finite_first_is_in_the_report(is_script: bool, tmp_path: Path) -> None:
    event = ev.NonFinite(step=3, origin=ORIGIN)
    run = recorded_script(tmp_path / "a") if is_script else recorded(tmp_path / "a", [STARTED, update(1)])
    list(run.record([event]))
    page = page_of(run)
    assert not page.open and "img" not in page.tags
    shown = ["h.1.mlp (MLP)", "weight 8×4 float16 -2 60,000 0 0", "output 8×4 float16 – – 3 29", "3 71 5, 6 to be"]
    assert [text for text in shown if text not in page.text] == []
    list(run.record([replace(STARTED, resumed=True)]))
    assert "h.1.mlp" not in page_of(run).text, "of the last start only"


@pytest.mark.usefixtures("both_widths")
def test_report_writes_one_file(run_cli: RunCli, tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    new = tmp_path / "new" / "a.html"
    assert run_cli("report", run.path, "--to", new).out == f"{new}\n"
    assert [path.name for path in new.parent.iterdir()] == ["a.html"]
    run_cli("runs", "export", run.path, "--to", tmp_path / "b.html")
    assert Page((tmp_path / "b.html").read_text("utf-8")).tags == Page(new.read_text("utf-8")).tags


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_without_the_extra_the_error_names_it(
    module: str, cli_error: CliError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(tmp_path / "a")
    monkeypatch.setitem(sys.modules, module, None)
    error = cli_error("report", run.path, "--to", "a.html")
    assert error.code == "unavailable" and f'needs {module}: pip install "tui-lab[plots]"' in str(error)


def test_report_refuses_other_suffixes(cli_error: CliError, tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    assert cli_error("report", run.path, "--to", "a.pdf").problems[0].value == "a.pdf"
    assert not (tmp_path / "a.pdf").exists()


@pytest.mark.slow
def test_a_browser_requests_nothing(trained: Run, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser is installed")
    file = tmp_path / "report.html"
    file.write_text(run_report(gather(trained, [])), "utf-8")
    requests: list[str] = []
    messages: list[str] = []
    refused: list[str] = []
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: messages.append(message.text))
            page.on("pageerror", lambda error: messages.append(str(error)))
            page.goto(file.as_uri(), wait_until="networkidle")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone scrolls sideways"
            assert page.locator("figure svg path").count() > 3
        assert set(requests) <= {file.as_uri(), "data:,"} and messages == []
        # The policy blocks what an injected script would request.
        page.on("requestfailed", lambda request: refused.append(f"{request.url} {request.failure}"))
        with page.expect_event("requestfailed"):
            page.evaluate("() => { new Image().src = 'http://127.0.0.1:9/x.png' }")
        browser.close()
    assert len(refused) == 1 and "csp" in refused[0].casefold()


@pytest.mark.usefixtures("both_widths")
def test_phones_get_a_chart_that_need_not_scroll(trained: Run) -> None:
    """A phone of 390 pixels has about 330 for the chart, whose texts keep their size."""
    source = run_report(gather(trained, []))
    wide, narrow = (float(width) for width in re.findall(r'viewBox="0 0 ([\d.]+)', source))
    assert narrow < 340 < wide and "min-width: 34rem" not in source
    assert re.search(r"max-width: 34rem.*figure \.wide { display: none", source, re.DOTALL)
    ids = re.findall(r' id="([^"]+)"', source)
    assert len(set(ids)) == len(ids), "both charts are in one document"


def swept(path: Path) -> Sweep:
    """Three points with two seeds each: the second point is the best, the third failed."""
    over = ("optim.lr=0.1,0.2,0.3", "model.dropout=0.0")
    sweep = sweeps.create_sweep(plan.plan("reverse", [], over, {"seeds": 2, "metric": "train_loss"}), path)
    for number, value in enumerate([3.0, 2.5, 1.0, 1.5]):
        run = recorded(
            sweep.folder(number), [STARTED, update(1, 3.0), update(2, value)], config=tiny("train.matmul=blas")
        )
        sweep.write_result(number, Result("done", value, summary=run.summary()))
    sweep.write_result(4, Result("failed", message=EVIL))
    return sweep


def test_sweep_report_ranks_the_trials(tmp_path: Path) -> None:
    source = sweep_report(swept(tmp_path / "swept"))
    page = Page(source)
    assert not page.open and not page.requests and not {"script", "img"} & set(page.tags)
    assert "6 trials over" in page.text and "4 done, 1 failed, 1 waiting" in page.text
    assert "<script>alert(1)</script>" in page.text and "\x1b" not in source
    trials = [row for row in re.findall(r"<tr>(.*?)</tr>", source, re.DOTALL) if ">done<" in row]
    assert [re.sub(r"<[^>]*>|\s+", " ", row).split()[1] for row in trials] == ["2", "3", "1", "0"]
    assert re.search(r"1\.25 0\.3536", page.text), "mean and standard deviation over seeds"
    colors = sorted(set(re.findall(r"var\((--s\d+)\)", source)))
    assert colors == ["--s0", "--s1"] and all(source.count(f"{name}:") == 3 for name in colors)
    assert "<code>lr</code>" not in source, "settings that are swept are not those of every trial"
    assert re.search(r"matmul blas", page.text), "as chosen for the runs, not as planned"


def test_report_takes_the_name_of_a_sweep(run_cli: RunCli, cli_error: CliError, tmp_path: Path) -> None:
    swept(runs.runs_folder() / "grid")
    assert run_cli("report", "grid", "--to", tmp_path / "grid.html").code == 0
    assert "<h1>grid</h1>" in (tmp_path / "grid.html").read_text("utf-8")
    assert cli_error("report", "grid", "--to", tmp_path / "g.html", "--prompt", "1").code == "conflict"


@pytest.mark.parametrize(
    "names",
    [
        ["lr=0.1", "lr=0.2", "lr=0.3"],
        [f"lr={lr} dropout={rate}" for lr in (0.1, 0.2) for rate in (0.0, 0.5)],
        [f"lr={lr} dropout={rate}" for lr in range(6) for rate in (0.0, 0.5)],
    ],
)
def test_each_curve_of_a_sweep_has_its_own_color_in_light_and_dark(names: list[str]) -> None:
    chart = overlay_chart({name: ((1.0, 2.0), (2.0, 1.0)) for name in names}, label="loss")
    light, dark, printed = (re.findall(r"--s\d+: (#\w{6});", part) for part in chart.style.split("@media"))
    assert len(set(light)) == len(set(dark)) == len(names) and printed == light
    assert all(f"var(--s{i})" in chart.svg for i in range(len(names)))


@pytest.mark.parametrize("unit", ["tokens", "samples"])
def test_report_on_a_script_leaves_out_what_needs_its_model(tmp_path: Path, unit: Unit) -> None:
    page = page_of(recorded_script(tmp_path / "a", unit=unit))
    assert not page.open and not page.requests
    shown = [
        "train.py --batch_size=12",
        "learning_rate 0.01",
        "AdamW",
        "accuracy 1 0.5 1 2",
        "optim.lr_factor",
        f"{unit}/s",
    ]
    assert [text for text in shown if text not in page.text] == []
    assert "After 8 steps" in page.text and "Randomness" not in page.text and "default" not in page.text
    assert ("ln V" in page.text) == (unit == "tokens")


@pytest.mark.usefixtures("without_charts")
def test_report_on_a_script_names_the_code_that_was_kept(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    assert "It was not recorded." in page_of(run).text
    files = (CodeFile("train.py", "", 4), CodeFile("parts/model.py", "", 6))
    left_out = (LeftOut("big.py", "larger than 256 kB"),)
    code = RecordedCode(files, "train.py", GitState("1a2b3c4d", "trunk", is_dirty=True), left_out)
    write_code(run.path, code, {"train.py": b"a\nb\n", "parts/model.py": b"a\nb\nc\n"})
    page = page_of(run)
    assert not page.open and not page.requests
    shown = [
        "git commit 1a2b3c4d: branch trunk; tracked files differed",
        "train.py 2 4",
        "parts/model.py 3 6",
        "big.py larger than 256 kB",
    ]
    assert [text for text in shown if text not in page.text] == []


@pytest.mark.usefixtures("without_charts")
def test_table_of_the_code_is_short(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    names = [f"m{number}.py" for number in range(MOST_FILES + 1)]
    code = RecordedCode(tuple(CodeFile(name, "", 1) for name in names))
    write_code(run.path, code, {names[0]: b"x"})
    text = page_of(run).text
    assert f"{names[0]} 1 1" in text and "m1.py cannot be read" in text, "its file was removed"
    assert names[-1] not in text and "and 1 more" in text and "no git commit is known" in text


@pytest.mark.usefixtures("without_charts")
def test_report_on_an_imported_run_names_its_source() -> None:
    [source] = sources(SAMPLES / "huggingface" / "trainer_state.json")
    page = page_of(write_run(source, runs.runs_folder() / "old", replace=False).run)
    assert not page.open and "trainer_state.json (trainer-state)" in page.text and "train_batch_size 8" in page.text
    assert "script" not in page.text and "seconds of training" not in page.text and "Trained on" not in page.text


@pytest.mark.usefixtures("without_charts")
def test_report_on_a_resumed_script_names_the_step(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    log = run.path / "events.jsonl"
    log.write_text(log.read_text("utf-8").replace('"resumed": false', '"resumed": true'), "utf-8")
    assert "resumed at step 0" in page_of(run).text


@pytest.mark.usefixtures("without_charts")
def test_report_on_a_failed_script_has_the_traceback(tmp_path: Path) -> None:
    page = page_of(recorded_script(tmp_path / "a", ending="failed"))
    assert 'File "train.py", line 9' in page.text and "pre" in page.tags


@pytest.mark.parametrize("ending", ["running", "failed"])
def test_report_on_a_script_without_a_step(tmp_path: Path, ending: Ending) -> None:
    page = page_of(recorded_script(tmp_path / "a", started=False, ending=ending))
    assert not page.open and "No steps recorded." in page.text and "step 0" in page.text


def test_script_cannot_be_prompted(cli_error: CliError, tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    assert cli_error("report", run.path, "--to", "a.html", "--prompt", "x").code == "unavailable"
    assert not (tmp_path / "a.html").exists()


def test_nothing_of_a_script_is_markup(tmp_path: Path) -> None:
    config = script_config("tokens", **{EVIL: EVIL}).model_copy(update={"command": (EVIL,), "folder": EVIL})
    events = [
        STARTED,
        update(1),
        ev.Logged(step=1, values={EVIL: 1.0}, texts={EVIL: EVIL}),
        ev.Failed(step=1, message=EVIL, details=EVIL),
    ]
    run = recorded_script(tmp_path / "a", config=config, events=events)
    code = RecordedCode((CodeFile(f"a{EVIL}", "", 0),), EVIL, GitState(EVIL, EVIL), (LeftOut(EVIL, EVIL),))
    write_code(run.path, code, {})
    source = run_report(gather(run, []))
    page = Page(source)
    assert not {"script", "img"} & set(page.tags) and not page.requests and not page.open and "\x1b" not in source
    assert page.text.count("<script>alert(1)</script>") >= 13
