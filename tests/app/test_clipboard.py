"""What `y` copies in each pane and list."""

from tests.app.fake import lab
from tests.app.panes.test_doctor import SOFTMAX_TWICE, report
from tests.app.panes.test_generation import token
from tests.app.run_folders import folder
from tui_lab.app.app import LabApp
from tui_lab.app.clipboard import NOTHING, SHOWN
from tui_lab.app.panes.copied import setting_line
from tui_lab.app.screens.explain import Explain
from tui_lab.app.screens.runs.screen import RunsScreen
from tui_lab.app.session.messages import Diagnosed, TokenGenerated


def test_setting_is_copied_as_a_line_of_a_config_file() -> None:
    assert setting_line("optim.lr", 0.001) == "optim.lr = 0.001"
    assert setting_line("data.shuffle", "epoch") == 'data.shuffle = "epoch"'
    assert setting_line("optim.betas", (0.9, 0.95)) == "optim.betas = [0.9, 0.95]"


async def test_each_pane_copies_what_is_selected() -> None:
    async with lab("reverse", "optim.lr=0.002") as it:
        app = it.pilot.app

        async def copied(*keys: str) -> str:
            app._clipboard = ""
            await it.press(*keys)
            return app.clipboard

        first_key = it.screen.config_pane.key
        assert await copied("1", "y") == setting_line(str(first_key), it.config.model.d_model)
        assert await copied("2", "y") == "runs/reverse-1"
        assert "step 30" in await copied("left", "y")
        title, text, x, y = (await copied("3", "n", "y")).split("\n")
        assert "2/" in title and text.startswith("text ") and len(x.split()) == len(y.split()) == 12
        assert y.split()[1] == "-1"
        prompt = await copied("4", "y")
        assert prompt == it.screen.generation_pane.query_one("#prompt").value  # type: ignore[attr-defined]
        await it.press("g")
        it.screen.generation_pane.receive(TokenGenerated(1, token("7")))
        assert await copied("y") == f"{prompt}7"
        assert await copied("5", "y") == it.screen.events_pane.copied() != ""
        it.screen.doctor_pane.receive(Diagnosed(it.config, report(SOFTMAX_TWICE)))
        finding = await copied("6", "y")
        assert finding.startswith("Two softmaxes. (double_softmax)\n") and "floor 9.825" in finding
        assert await copied("enter", "y") == finding and isinstance(app.screen, Explain)


async def test_toast_shows_how_the_copy_begins() -> None:
    async with lab() as it:
        await it.press("6", "y")
        it.screen.query_one("#prompt").value = "x" * 60  # type: ignore[attr-defined]
        await it.press("4", "y")
        toasts = list(it.pilot.app._notifications)
        assert [toast.message for toast in toasts[-2:]] == [NOTHING, "x" * SHOWN + "…"]


async def test_lists_copy_the_path_of_the_run() -> None:
    run = folder("one", 0.5)
    app = LabApp()
    async with app.run_test() as pilot:
        await pilot.press("end", "y")
        assert app.clipboard == str(run.path)
        app._clipboard = ""
        await app.push_screen(RunsScreen())
        while not app.screen.query_one("#table").row_count:  # type: ignore[attr-defined]
            await pilot.pause()
        await pilot.press("y")
        assert app.clipboard == str(run.path)
