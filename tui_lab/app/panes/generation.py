"""The generation console: talk to the model while it trains."""

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from tui_lab.app.panes.answers import Answer, Answers, style_of
from tui_lab.app.panes.pane import Pane
from tui_lab.app.session.generation_thread import Request
from tui_lab.app.session.messages import GenerationMessage, GenerationStarted, TokenGenerated
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.input import Field
from tui_lab.core.inference.sampling import Sampling
from tui_lab.data.dataset import Task
from tui_lab.data.tokenizers import show
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable

KEPT_ANSWERS = 50
SECONDS_BETWEEN_DRAWINGS = 0.1
BOXES = (("temperature", "0.8"), ("top_k", "0"), ("top_p", "1"), ("seed", "0"), ("tokens", "80"), ("every", "0"))
NUMBERS = {"temperature": float, "top_p": float}
LEGEND = Text.assemble(
    ("likely", style_of(0.5)), (" · ", "dim"), ("unlikely", style_of(0.1)), (" · ", "dim"), ("rare", style_of(0.0)),
    ("   ←/→ alternatives", "dim"),
)  # fmt: skip


class GenerationPane(Pane):
    number, title, help_name, main = 4, "Generation", "generation", "#prompt"

    BINDINGS = [Binding("escape", "leave", "Leave the field", show=False)]

    class Ask(Message):
        """The person, or the watch, wants an answer."""

        def __init__(self, request: Request) -> None:
            super().__init__()
            self.request = request

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.answers: list[Answer] = []
        self.selected: int | None = None
        self._number = 0
        self._state: LabState | None = None
        self._watched_at = 0
        self._dirty, self._drawn_at = True, float("-inf")
        self._filled = False

    def compose(self) -> ComposeResult:
        yield Field("SOCRATES: ", id="prompt", placeholder="prompt")
        with Horizontal(id="sampling"):
            for name, value in BOXES:
                yield Static(name.replace("_", "-"), classes="name")
                yield Field(value, id=name, compact=True, type="number")
        yield Static(id="alternatives")
        yield Answers("answers", self._ending)

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        self._fill(state)
        self._watch(state)
        if self._dirty and now - self._drawn_at >= SECONDS_BETWEEN_DRAWINGS:
            self._dirty, self._drawn_at = False, now
            self.redraw()

    @property
    def speaking(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self.answers) and not self.answers[-1].done

    def _fill(self, state: LabState) -> None:
        """Once, when the task is known: a prompt that fits it."""
        if self._filled or state.ready is None:
            return
        self._filled = True
        data = state.ready.config.data
        if data.task == "reverse":
            digits = "0123456789abcdefghijklmnopqrstuvwxyz"
            self.query_one("#prompt", Input).value = "".join(
                digits[(3 * i + 1) % data.n_digits] for i in range(data.length)
            )
            self.query_one("#temperature", Input).value = "0"

    def _watch(self, state: LabState) -> None:
        """The same prompt again every N steps, to see the model learn."""
        box = self.query_one("#every", Input)
        every = int(box.value) if box.value.isdigit() and self.answers and not box.has_focus else 0
        if every and state.step >= self._watched_at + every and state.phase == "running":
            self.ask()

    def ask(self, state: LabState | None = None) -> None:
        """Send what stands in the fields; what is wrong with them is said beneath."""
        self._state = state or self._state
        if self._state is None or self._state.ready is None:
            return
        self._fill(self._state)
        try:
            request = self._request()
        except (ConfigError, ValueError) as error:
            self.query_one("#alternatives", Static).update(Text(f"✗ {printable(str(error).splitlines()[0])}", "bold"))
            return
        self._watched_at = self._state.step
        self.answers = [*self.answers, Answer(request, self._state.step)][-KEPT_ANSWERS:]
        self.selected, self._dirty = None, True
        self.post_message(self.Ask(request))

    def _request(self) -> Request:
        values: dict[str, float] = {}
        for name, _ in BOXES:
            text = self.query_one(f"#{name}", Input).value.strip() or "0"
            try:
                values[name] = NUMBERS.get(name, int)(text)
            except ValueError:
                raise ConfigError([f"{name} = {text!r}: must be a number"]) from None
        check_sampling(values)
        assert self._state is not None and self._state.ready is not None
        task, prompt = self._state.ready.task, self.query_one("#prompt", Input).value
        tokens = int(values["tokens"])
        if task.name == "reverse":
            tokens = len(prompt)
        if not prompt:
            raise ConfigError(["the prompt is empty; type at least one character"])
        self._number += 1
        return Request(
            self._number, prompt, tokens, values["temperature"], int(values["top_k"]), values["top_p"],
            int(values["seed"]),
        )  # fmt: skip

    def hear(self, message: GenerationMessage) -> None:
        """Add what the generation thread reports to its reply."""
        for answer in self.answers:
            if answer.request.number == message.number:
                if isinstance(message, GenerationStarted):
                    answer.step = message.weights.step
                    answer.best = message.weights.best
                elif isinstance(message, TokenGenerated):
                    answer.made.append(message.generated)
                else:
                    answer.done = True
                    answer.error = message.error
                self._dirty = True

    def redraw(self) -> None:
        self.query_one(Answers).show(self.answers, self.selected)
        self._alternatives()

    def _ending(self, answer: Answer) -> Text:
        if answer.error:
            return Text(f" ✗ {printable(answer.error)}", "bold")
        return self._verdict(answer) if answer.done else Text("▌")

    def _verdict(self, answer: Answer) -> Text:
        """For task reverse: whether it is right."""
        if self._state is None or self._state.ready is None or self._state.ready.task.name != "reverse":
            return Text()
        right = "".join(made.text for made in answer.made) == answer.request.prompt[::-1]
        return (
            Text("  ✓ right", "bold green")
            if right
            else Text(f"  ✗ expected {answer.request.prompt[::-1]}", "bold red")
        )

    def _alternatives(self) -> None:
        task = self._run_task()
        if not self.answers or self.selected is None or task is None or not self.answers[-1].made:
            self.put("#alternatives", LEGEND, layout=True)
            return
        made = self.answers[-1].made[self.selected % len(self.answers[-1].made)]
        text = Text.assemble(
            (f"{show(task.tokenizer, made.token)} p = {made.probability:.3f}", "bold"), "; alternatives: "
        )
        for other in made.alternatives:
            if other.token != made.token:
                text.append(f"{show(task.tokenizer, other.token)} {other.probability:.3f}  ")
        self.put("#alternatives", text, layout=True)

    def _run_task(self) -> Task | None:
        return self._state.ready.task if self._state and self._state.ready else None

    def on_answers_moved(self, event: Answers.Moved) -> None:
        if self.answers and self.answers[-1].made:
            n = len(self.answers[-1].made)
            self.selected = (-1 if self.selected is None and event.by > 0 else self.selected or 0) + event.by
            self.selected %= n
            self.redraw()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.ask()

    def action_leave(self) -> None:
        self.query_one(Answers).focus()


def check_sampling(values: dict[str, float]) -> None:
    """Raises ConfigError where the console's fields are out of bounds."""
    Sampling(values["temperature"], int(values["top_k"]), values["top_p"], int(values["seed"]))
    problems = [
        f"{name} = {values[name]:g}: must be between {low} and {high:,}"
        for name, low, high in (("tokens", 1, 100_000), ("every", 0, 10**9))
        if not low <= values[name] <= high
    ]
    if problems:
        raise ConfigError(problems)
