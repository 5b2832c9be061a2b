"""The status line."""

from tests.app.fake import lab
from tui_lab.app.session.messages import Preparing


async def test_status_line_shows_phase_step_times_and_memory() -> None:
    async with lab(size=(200, 50)) as it:
        shown = it.text("#status")
        for part in ("▶ running", "step 30/2,500", "epoch 0", "ETA 0:25", "70,430 tok/s", "cpu ×2", "256 MiB"):
            assert part in shown
        await it.tell(Preparing("encoding", 1, 4))
        assert it.screen.state.doing == "encoding 25%"
