"""The system pane and its title line."""

import pytest

from tests.app.fake import FakeSampler, lab
from tui_lab.app.panes.system import Row, largest, summary_of, system_text
from tui_lab.app.session.messages import GpuSample, SystemSample
from tui_lab.app.session.system_history import SystemHistory
from tui_lab.app.widgets.sparklines import LEVELS

GPU = GpuSample("NVIDIA H100", 97.0, 12 * 2**30, 80 * 2**30, 71.0, 310.0)


def sample(cpu: float = 43.0, **fields: object) -> SystemSample:
    values = {"process_cpu_percent": 180.0, "process_bytes": 2**28, "used_bytes": 2**32, "total_bytes": 2**34} | fields
    return SystemSample(pid=4321, trains=True, cpu_percent=cpu, **values)  # type: ignore[arg-type]


def history(*samples: SystemSample) -> SystemHistory:
    measured = SystemHistory()
    for one in samples:
        measured.add(one)
    return measured


@pytest.mark.parametrize("width", [30, 50, 100])
def test_every_line_has_the_present_value_within_the_width(width: int) -> None:
    measured = history(sample(90.0), sample(cpu_temperature=54.0, gpus=(GPU,)))
    lines = system_text(measured, width, 11).plain.splitlines()
    assert max(map(len, lines)) <= width
    values = ("43 %", "180 %", "256 MiB", "4.0/16 GiB", "54 °C", "H100", "97 %", "12.0/80 GiB", "71 °C", "310 W")
    if width >= 50:
        header = lines.pop(0)
        assert "now" in header and header.endswith("max") and "90 %" in lines[0]
    assert len(lines) == len(values)
    assert [value for value, line in zip(values, lines, strict=True) if value not in line] == []


def test_graph_shows_peaks_and_warns_near_the_end_of_the_scale() -> None:
    assert largest([1, 5, 2, 3, 4], 2) == [5, 4] and largest([], 3) == [] and largest([1, 2], 9) == [1, 2]
    line = Row("temp", [0.0, 50.0, 85.0, 100.0], "100 °C", "100 °C").text(60)
    styles = {line.plain[span.start]: str(span.style) for span in line.spans if line.plain[span.start] in LEVELS}
    assert styles == {"▁": "cyan", "▄": "cyan", "▇": "yellow", "█": "red"}


def test_graph_uses_the_lines_that_there_are() -> None:
    row = Row("CPU", [0.0, 50.0, 75.0, 100.0], "100 %", "100 %")
    lines = row.text(60, 2).plain.splitlines()
    assert [line[10:39].strip(" ") for line in lines] == ["▄█", "▁███"]
    assert "100 %" in lines[1] and "100 %" not in lines[0]
    tall = system_text(history(sample()), 60, 9).plain.splitlines()
    assert len(tall) == 1 + 4 * 2 and len(system_text(history(sample()), 60, 3).plain.splitlines()) == 5


def test_title_line_has_the_most_important_values() -> None:
    assert summary_of(sample()) == "CPU 43 % · 256 MiB"
    assert summary_of(sample(cpu_temperature=54.0)) == "CPU 43 % · 256 MiB · 54 °C"
    assert summary_of(sample(gpus=(GPU,))) == "CPU 43 % · 256 MiB · GPU 97 % 71 °C"
    assert summary_of(sample(process_bytes=None)) == "CPU 43 %"


async def test_pane_is_a_line_until_its_key_is_pressed() -> None:
    sampler = FakeSampler()
    async with lab(sampler=sampler) as it:
        sampler.samples.append(sample())
        await it.tell()
        assert sampler.started and "7 System  CPU 43 % · 256 MiB" in it.painted()
        assert it.screen.state.curves["memory_mib"].last == 256.0
        await it.press("7")
        assert "pid 4321" in it.painted() and "43 %" in it.text("#system-text")
        await it.press("z")
        assert it.text("#system-text").count("43 %") == 2
        sampler.samples.append(sample(80.0))
        await it.tell()
        assert "80 %" in it.text("#system-text")
    assert sampler.closed


async def test_pane_is_open_in_a_tall_terminal() -> None:
    async with lab(size=(120, 58), sampler=FakeSampler([sample()])) as it:
        await it.tell()
        assert "43 %" in it.text("#system-text")


async def test_last_line_says_what_holds_the_memory_of_a_step() -> None:
    async with lab(size=(100, 60), sampler=FakeSampler([sample()])) as it:
        await it.press("7")
        line = it.text("#system-text").splitlines()[-1]
        assert line.startswith("a step: ") and "activations 4.2 MiB" in line and "weights 396 KiB" in line
