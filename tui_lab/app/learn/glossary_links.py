"""The links to the glossary in the text of a stage."""

from tui_lab.app.learn.guide import Guide
from tui_lab.core.lessons.stage_text import links


class GlossaryLinks:
    """Gives the terms of the present stage in turn."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._stage = ""
        self._next = 0

    @property
    def exist(self) -> bool:
        return bool(links(self._guide.text))

    def next_term(self) -> str | None:
        """Return the term of the text's next link; after the last one comes the first. None if it has no link."""
        all_links = links(self._guide.text)
        if not all_links:
            return None
        if self._guide.stage.id != self._stage:
            self._stage = self._guide.stage.id
            self._next = 0
        self._next += 1
        return all_links[(self._next - 1) % len(all_links)].term
