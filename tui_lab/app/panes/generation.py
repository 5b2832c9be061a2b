"""The generation pane: the model's replies to a prompt, generated while it trains."""

from collections.abc import Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input, Static

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of, named
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.prompt_form import PromptForm
from tui_lab.app.panes.replies import CHECKPOINT_HINT, NO_MODEL_HINT, Replies, Reply, probability_style, restored
from tui_lab.app.session.generation_thread import GenerationRequest
from tui_lab.app.session.messages import (
    GenerationFinished,
    GenerationStarted,
    TokenGenerated,
)
from tui_lab.app.session.saved_weights import NO_CHECKPOINT
from tui_lab.app.session.state import LabState
from tui_lab.app.token_text import token_text
from tui_lab.core.config.script import is_imported
from tui_lab.core.inference.reply_log import RecordedReply
from tui_lab.runs.answers import verdict
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable

MAX_REPLIES = 50
SECONDS_BETWEEN_DRAWINGS = 0.1
LEGEND = Text.assemble(
    ("likely", probability_style(0.5)),
    (" · ", "dim"),
    ("unlikely", probability_style(0.1)),
    (" · ", "dim"),
    ("rare", probability_style(0.0)),
)


class GenerationPane(Pane):
    number = 4
    title = "Generation"
    help_name = "generation"
    main = "#replies"
    hints: Sequence[str] = ("i edit the prompt", "g generate", "←→ alternatives", "y copy")
    field_hints: Sequence[str] = ("Enter generate", "Tab next field", "Esc leave", "F1 help")

    BINDINGS = named(
        "generation",
        Binding("escape", "leave", "Leave the field", show=False),
        Binding("i,enter", "edit", "Edit the prompt", show=False),
    )

    class Requested(Message):
        """A reply is to be generated."""

        def __init__(self, request: GenerationRequest) -> None:
            super().__init__()
            self.request = request

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.replies: list[Reply] = []
        self.selected: int | None = None
        """Index of the selected token of the newest reply."""
        self._state: LabState | None = None
        self._requested_at_step = 0
        self._dirty = True
        self._drawn_at = float("-inf")
        self.form = PromptForm(id="form")

    def compose(self) -> ComposeResult:
        yield self.form
        yield Static(id="alternatives")
        yield Replies("replies", self._ending)

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        if state.ready is not None:
            self.form.fill(state.ready)
        if is_imported(state.config):
            self.query_one(Replies).hint = NO_MODEL_HINT
        self._repeat(state)
        if self._dirty and now - self._drawn_at >= SECONDS_BETWEEN_DRAWINGS:
            self._dirty = False
            self._drawn_at = now
            self.redraw()

    def restore(self, recorded: Sequence[RecordedReply]) -> None:
        """Show the replies of an earlier look at the run, unless there are new ones already."""
        if not self.replies:
            self.replies = [restored(reply) for reply in recorded]
            self._dirty = True

    def finished(self, number: int) -> Reply | None:
        """Return the reply to a request, if it came to an end without an error."""
        reply = next((reply for reply in self.replies if reply.request.number == number), None)
        return reply if reply is not None and reply.done and not reply.error and reply.tokens else None

    def use_checkpoints(self) -> None:
        """Generate from saved weights: no model trains in this process, so there are none of each evaluation."""
        self.form.use_checkpoints()
        self.query_one(Replies).hint = CHECKPOINT_HINT
        self.redraw()

    def copied(self) -> str:
        """Return the newest prompt with its answer, or the prompt in the field."""
        if not self.replies:
            return self.form.prompt_field.value
        reply = self.replies[-1]
        return reply.request.prompt + "".join(token.text for token in reply.tokens)

    def summary(self, state: LabState) -> str:
        return "" if not self.replies else self.replies[-1].start

    @property
    def generating(self) -> bool:
        """Whether a reply is being generated."""
        return bool(self.replies) and not self.replies[-1].done

    def _repeat(self, state: LabState) -> None:
        """Generate again if that is due by the field `every`."""
        every = self.form.steps_between_answers if self.replies else 0
        if state.is_script and self.generating:
            return  # The script would answer every request, also one that nobody waits for any more.
        # A replay may have gone back.
        if every and abs(state.step - self._requested_at_step) >= every and state.phase == "running":
            self.generate()

    def generate(self, state: LabState | None = None) -> None:
        """Generate a reply with the values of the fields, or show what is wrong with them."""
        self._state = state or self._state
        if self._state is None or self._state.ready is None:
            return
        self.form.fill(self._state.ready)
        try:
            request = self.form.request(self._state.trainer_config)
        except ConfigError as error:
            problem = Text(f"✗ {printable(str(error.problems[0]))}", "bold")
            self.query_one("#alternatives", Static).update(problem)
            return
        self._requested_at_step = self._state.step
        self._expect_reply(request, self._state.step)
        self.post_message(self.Requested(request))

    def request_at_evaluation(self, state: LabState, step: int) -> GenerationRequest | None:
        """Return a request to the weights of an evaluation, and expect its reply; None if there is to be none."""
        if state.ready is not None:
            self.form.fill(state.ready)
        if not self.form.at_evaluations or self.generating:
            return None
        try:
            request = self.form.request(state.trainer_config)
        except ConfigError:
            return None  # The fields are being edited.
        self._expect_reply(request, step)
        return request

    def _expect_reply(self, request: GenerationRequest, step: int) -> None:
        self.replies = [*self.replies, Reply(request, step)][-MAX_REPLIES:]
        self.selected = None
        self._dirty = True

    def receive(self, message: GenerationStarted | TokenGenerated | GenerationFinished) -> None:
        """Add a message of the generation thread to its reply."""
        for reply in self.replies:
            if reply.request.number != message.number:
                continue
            match message:
                case GenerationStarted():
                    reply.step = message.weights.step
                    reply.best = message.weights.best
                    reply.has_weights = True
                case TokenGenerated():
                    reply.tokens.append(message.generated)
                case GenerationFinished():
                    reply.done = True
                    reply.error = self._with_key(message.error)
            self._dirty = True

    def _with_key(self, error: str | None) -> str | None:
        """Return an error with the key that helps, if this app can save a checkpoint of the run."""
        if error != NO_CHECKPOINT or not self.screen.check_action("do", ("checkpoint",)):
            return error
        key = keymap_of(self.app).key_of(BY_ID["checkpoint"])
        return f"{error}; {key} saves one" if key else error

    def redraw(self) -> None:
        self.query_one(Replies).show_replies(self.replies, self.selected)
        self.put("#alternatives", self._alternatives(), layout=True)

    def _ending(self, reply: Reply) -> Text:
        """Return what is shown after a reply: an error, a cursor while it grows, or whether it is right."""
        if reply.error:
            return Text(f" ✗ {printable(reply.error)}", "bold")
        if not reply.done:
            return Text("▌")
        config = None if self._state is None else self._state.trainer_config
        judgment = verdict(config, reply.request.prompt, "".join(token.text for token in reply.tokens))
        return Text(f"  {judgment}", "bold green" if judgment.startswith("✓") else "bold red") if judgment else Text()

    def _alternatives(self) -> Text:
        """Return the alternatives to the selected token, or the meaning of the styles."""
        if self._state is None or self._state.ready is None or self.selected is None or not self.replies[-1].tokens:
            return LEGEND
        tokenizer = self._state.ready.tokenizer
        tokens = self.replies[-1].tokens
        selected = tokens[self.selected % len(tokens)]
        title = f"{token_text(tokenizer, selected.token)} p = {selected.probability:.3f}"
        text = Text.assemble((title, "bold"), "; alternatives: ")
        for other in selected.alternatives:
            if other.token != selected.token:
                text.append(f"{token_text(tokenizer, other.token)} {other.probability:.3f}  ")
        return text

    def on_replies_token_moved(self, event: Replies.TokenMoved) -> None:
        if not self.replies or not self.replies[-1].tokens:
            return
        n_tokens = len(self.replies[-1].tokens)
        if self.selected is None:
            self.selected = 0 if event.by > 0 else n_tokens - 1
        else:
            self.selected = (self.selected + event.by) % n_tokens
        self.redraw()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.generate()

    def action_edit(self) -> None:
        self.focus_now(self.form.prompt_field)

    def action_leave(self) -> None:
        self.focus_now(self.query_one(Replies))
