"""The fields of the generation pane: a prompt, how to sample, and how often to answer it."""

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.widgets import Input, Static

from tui_lab.app.panes.sampling_fields import AT_EVALUATIONS, DEFAULTS, is_at_evaluations, parse_fields
from tui_lab.app.prompts import TEXT_PROMPT, first_prompt, script_prompt
from tui_lab.app.session.generation_thread import GenerationRequest
from tui_lab.app.session.messages import Ready
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.config.schema import TASKS, Config
from tui_lab.data.tokenizers import IdTokenizer
from tui_lab.runs.answers import new_tokens
from tui_lab.util.errors import ConfigError

WIDTH_OF_ALL_FIELDS = 68
"""With fewer columns the sampling fields take two lines."""


class PromptForm(Vertical):
    """Call `fill` once the run is open; `request` reads the fields."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, classes="-narrow")  # Until there is room: most panes are narrow.
        self.at_evaluations = False
        """Whether the prompt is to be answered at every evaluation."""
        self._n_requests = 0
        self._is_filled = False
        self._has_weights_of_evaluations = True

    def compose(self) -> ComposeResult:
        yield Field(id="prompt", placeholder="prompt", select_on_focus=False)
        with Horizontal(id="sampling"):
            for name, value in DEFAULTS.items():
                yield Static(name.replace("_", "-"), classes="name", id=f"name-{name}")
                yield Field(value, id=name, compact=True, type="text" if name == "every" else "number")

    def on_resize(self, event: Resize) -> None:
        narrow = event.size.width < WIDTH_OF_ALL_FIELDS
        self.set_class(narrow, "-narrow")
        update_text(self.query_one("#name-temperature", Static), "temp" if narrow else "temperature")

    @property
    def prompt_field(self) -> Input:
        return self.query_one("#prompt", Input)

    @property
    def steps_between_answers(self) -> int:
        """After how many steps the prompt is to be answered again; 0 if not, or while that is edited."""
        field = self.query_one("#every", Input)
        return int(field.value) if field.value.isdigit() and not field.has_focus else 0

    def fill(self, ready: Ready) -> None:
        """Once: put in a prompt that suits the task."""
        if self._is_filled:
            return
        self._is_filled = True
        config = ready.trainer_config
        if config is None or config.data.task not in TASKS:
            self.prompt_field.value = script_prompt(ready.tokenizer)
            if isinstance(ready.tokenizer, IdTokenizer):
                self.prompt_field.placeholder = "token ids, separated by spaces"
        elif config.data.task == "reverse":
            self.prompt_field.value = first_prompt(config.data)
            self.query_one("#temperature", Input).value = "0"
        else:
            self.prompt_field.value = TEXT_PROMPT
            self._set_every(AT_EVALUATIONS if self._has_weights_of_evaluations else DEFAULTS["every"])

    def use_checkpoints(self) -> None:
        """There are no weights of each evaluation, so the prompt cannot be answered then."""
        self._has_weights_of_evaluations = False
        if self.at_evaluations:
            self._set_every(DEFAULTS["every"])

    def _set_every(self, text: str) -> None:
        self.query_one("#every", Input).value = text
        self.at_evaluations = is_at_evaluations(text)

    @on(Input.Changed, "#every")
    def _every_changed(self, event: Input.Changed) -> None:
        self.at_evaluations = is_at_evaluations(event.value)

    def request(self, config: Config | None) -> GenerationRequest:
        """Return a request from the fields. config: None for a script. Raises ConfigError."""
        fields = parse_fields({name: self.query_one(f"#{name}", Input).value for name in DEFAULTS})
        if fields.every == AT_EVALUATIONS and not self._has_weights_of_evaluations:
            message = "only in the app that trains the run"
            raise ConfigError.of("unavailable", message, key="every", value=AT_EVALUATIONS, allowed="a number of steps")
        prompt = self.prompt_field.value
        if not prompt:
            raise ConfigError.of("missing", "the prompt is empty; type at least one character", key="prompt")
        n_tokens = fields.max_new_tokens if config is None else new_tokens(config, prompt, fields.max_new_tokens)
        self._n_requests += 1
        return GenerationRequest(
            number=self._n_requests,
            prompt=prompt,
            max_new_tokens=n_tokens,
            temperature=fields.sampling.temperature,
            top_k=fields.sampling.top_k,
            top_p=fields.sampling.top_p,
            seed=fields.sampling.seed,
        )
