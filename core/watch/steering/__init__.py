"""What the keyboard changes in a script while it trains."""
