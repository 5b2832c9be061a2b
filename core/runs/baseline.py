"""The baseline of a requirement such as "val_loss<=baseline+0.02"."""

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.seed_groups import different_task
from tui_lab.core.runs.summary import Summary, summarize_log
from tui_lab.core.user_code.import_file import PATH_SETTINGS, absolute_setting
from tui_lab.util.errors import ConfigError


def baseline_summary(name: str, config: RunConfig) -> Summary:
    """Return the summary of the run `name`, to which a run with `config` is compared.

    Raises RunError for an unknown or damaged run, ConfigError for one of another task.
    """
    run = runs.find(name)
    of_baseline = run.config()
    if isinstance(config, Config):
        for key in PATH_SETTINGS:
            config = settings.changed(config, key, absolute_setting(key, settings.get(config, key)))
    if different_key := different_task(of_baseline, config):
        message = f"its losses cannot be compared with those of the new run, since {different_key} differs"
        raise ConfigError.of("conflict", message, key="--baseline", value=name)
    return run.current_summary() or summarize_log(run.downsampled()).summary(str(run.path))
