"""A folder for PYTHONPATH; see tui_lab.core.watch.process.script_process."""
