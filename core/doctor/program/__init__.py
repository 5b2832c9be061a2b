"""The program under examination: its model, batches, loss and update, however they were given."""
