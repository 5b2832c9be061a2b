"""A folder for PYTHONPATH; see tui_lab.core.watch.script_process."""
