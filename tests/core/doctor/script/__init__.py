"""The doctor on a script: the loss as a tape, what is captured, and the target made of it."""
