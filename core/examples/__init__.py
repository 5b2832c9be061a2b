"""What a run's examples say: the hardest, those most often wrong, copies of a row, and where the loss lies."""
