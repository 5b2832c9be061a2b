"""The palette's screen: commands with arguments, in the order of the keys however fast they come."""

from contextlib import suppress

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.command import CommandInput, CommandList, Hit, Hits, Provider, SearchIcon
from textual.containers import Horizontal, Vertical
from textual.events import Key
from textual.message import Message
from textual.widgets import Input, LoadingIndicator, OptionList
from textual.worker import WorkerCancelled, WorkerFailed

from tui_lab.app.palette.offers import Offer, find
from tui_lab.app.palette.verbs import verbs_of
from tui_lab.app.textual_fixes.palette import Palette
from tui_lab.app.widgets.input import Field
from tui_lab.util.escape import printable

FIRST = 1000.0
"""A score above those of Textual's fuzzy search."""
LAST = -1000.0
PLACEHOLDER = "a command, or: set optim.lr 0.001 · go 500 · theme NAME …"


class OfferHit(Hit):
    """A hit that is an offer. place: its place among the offers."""

    def __init__(self, offer: Offer, score: float) -> None:
        self.offer = offer
        about = (
            (f"✗ {printable(offer.about)}", "bold") if offer.is_problem else (printable(offer.about), "not bold dim")
        )
        display = Text.assemble(printable(offer.title or offer.line), "\n", about)
        super().__init__(score, display, lambda: None if offer.run is None else offer.run(), text=offer.line)


class VerbProvider(Provider):
    """Offers commands with arguments, and what is wrong with an argument."""

    async def search(self, query: str) -> Hits:
        line_offers = find(verbs_of(self.screen), query)
        for place, offer in enumerate(line_offers.offers):
            yield OfferHit(offer, (FIRST if line_offers.is_sure else LAST) - place)

    async def discover(self) -> Hits:
        for place, verb in enumerate(verbs_of(self.screen)):
            yield OfferHit(verb.offer, FIRST - place)


class PaletteInput(CommandInput, Field):
    """Leaves the keys of the list to the screen, which carries them out once the list shows what was typed."""

    LIST_KEYS = ("up", "down", "pageup", "pagedown", "tab")

    class ListKey(Message):
        """A key of the list was pressed."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    async def _on_key(self, event: Key) -> None:
        if event.key in self.LIST_KEYS:
            event.stop()
            event.prevent_default()
            self.post_message(self.ListKey(event.key))
        else:
            await super()._on_key(event)


class CommandLine(Palette):
    """A palette whose Enter and Tab complete an offer that has nothing to run."""

    def __init__(self) -> None:
        super().__init__(placeholder=PLACEHOLDER)
        self._typed = ""
        """The line when Enter or Tab was pressed."""

    def compose(self) -> ComposeResult:
        with Vertical(id="--container"):
            with Horizontal(id="--input"):
                yield SearchIcon()
                yield PaletteInput(placeholder=self._placeholder, select_on_focus=False)
            with Vertical(id="--results"):
                yield CommandList()
                yield LoadingIndicator()

    def on_mount(self) -> None:
        # At once: the next keys of a burst are typed here.
        self.set_focus(self.query_one(PaletteInput))

    async def _wait_for_list(self) -> None:
        """Wait until the list shows the hits of what was typed: the next key must not select an older one."""
        for worker in list(self.workers):
            if worker.node is self and worker.group == self._GATHER_COMMANDS_GROUP and not worker.is_finished:
                with suppress(WorkerCancelled, WorkerFailed):
                    await worker.wait()

    @on(Input.Submitted)
    async def _submitted(self, event: Input.Submitted) -> None:
        self._typed = event.value
        await self._wait_for_list()

    @on(PaletteInput.ListKey)
    async def _list_key(self, message: PaletteInput.ListKey) -> None:
        await self._wait_for_list()
        match message.key:
            case "tab":
                self._complete_highlighted()
            case "down":
                self._action_cursor_down()
            case "up":
                self._action_command_list("cursor_up")
            case _:
                self.action_page("page_up" if message.key == "pageup" else "page_down")

    def _complete_highlighted(self) -> None:
        commands = self.query_one(CommandList)
        if self._list_visible and commands.highlighted is not None:
            hit = getattr(commands.get_option_at_index(commands.highlighted), "hit", None)
            if isinstance(hit, OfferHit):
                self._typed = self.query_one(CommandInput).value
                self._complete(hit.offer)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        """Complete an offer that has nothing to run; Textual carries out the others."""
        hit = getattr(event.option, "hit", None)
        if isinstance(hit, OfferHit) and hit.offer.run is None:
            event.stop()
            event.prevent_default()
            if not hit.offer.is_problem:
                self._complete(hit.offer)

    def _complete(self, offer: Offer) -> None:
        """Put the offer's line into the field, before what was typed since."""
        field = self.query_one(CommandInput)
        field.value = offer.line + field.value.removeprefix(self._typed)
        field.cursor_position = len(field.value)
