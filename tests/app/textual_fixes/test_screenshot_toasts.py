"""The toast about a screenshot names the file, or the reason why there is none."""

from pathlib import Path

import pytest
from textual.app import App
from textual.events import DeliveryFailed

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_app import BaseApp


@pytest.mark.parametrize("app_type", plain_and_fixed(App, BaseApp))
async def test_failure_names_its_reason(app_type: type[App[None]]) -> None:
    async with app_type().run_test() as pilot:
        pilot.app.post_message(DeliveryFailed("key", OSError("No space left on device"), name="screenshot"))
        await pilot.pause()
        [toast] = pilot.app._notifications
        assert toast.severity == "error" and "No space left on device" in toast.message


async def test_screenshot_is_saved_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with BaseApp().run_test() as pilot:
        pilot.app.action_screenshot()
        while not pilot.app._notifications:
            await pilot.pause()
        [toast] = pilot.app._notifications
        [path] = tmp_path.iterdir()
        assert path.suffix == ".svg" and str(path) in toast.message and "[" not in toast.message
