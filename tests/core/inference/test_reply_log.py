"""The replies of a run: the newest are read again, in bounded size, and damage costs one line."""

from pathlib import Path

from tui_lab.core.inference import reply_log
from tui_lab.core.inference.reply_log import RecordedReply, append_reply, read_replies
from tui_lab.core.inference.sampling import Alternative, Generated, Sampling
from tui_lab.core.runs.run_files import REPLIES


def reply(step: int, n_tokens: int = 3) -> RecordedReply:
    tokens = [Generated(1, "ä\x1b", 0.5, (Alternative(1, 0.5), Alternative(2, 0.25))) for _ in range(n_tokens)]
    return RecordedReply(step, step == 2, "To be", 80, Sampling(0.0, top_k=3), tokens)


def test_replies_are_read_as_they_were_recorded_except_damaged_lines(tmp_path: Path) -> None:
    assert read_replies(tmp_path) == []
    replies = [reply(1), reply(2)]
    for each in replies:
        append_reply(tmp_path, each)
    assert read_replies(tmp_path) == replies
    path = tmp_path / REPLIES
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{}\n" + lines[1].replace(b'"top_k": 3', b'"top_k": -3') + lines[1] + lines[0][:20])
    assert read_replies(tmp_path) == replies


def test_only_the_newest_replies_are_kept(tmp_path: Path) -> None:
    for step in range(reply_log.MAX_REPLIES + 9):
        append_reply(tmp_path, reply(step))
    assert [each.step for each in read_replies(tmp_path)] == list(range(9, 9 + reply_log.MAX_REPLIES))
    append_reply(tmp_path, reply(1, n_tokens=20_000))
    assert read_replies(tmp_path)[-1].step != 1, "it is too long"
    for step in range(300, 306):
        append_reply(tmp_path, reply(step, n_tokens=3000))
    assert [each.step for each in read_replies(tmp_path)] == [304, 305]
    assert (tmp_path / REPLIES).stat().st_size <= 2 * reply_log.MAX_BYTES
