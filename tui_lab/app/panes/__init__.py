"""The lab's panes: config, loss, batch, generation and events."""
