"""The learning-rate range test of a script: it trains for a moment while its rate rises, and nothing is recorded."""
