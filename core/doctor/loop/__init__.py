"""What a real training loop does, as a record that checks can judge."""
