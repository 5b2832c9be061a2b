"""Live changes of a script's settings while it trains."""
