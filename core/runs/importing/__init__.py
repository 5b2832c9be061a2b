"""Import the logs of other programs as runs: CSV, TensorBoard event files, trainer_state.json."""
