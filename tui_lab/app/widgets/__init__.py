"""Widgets that know nothing of training (an import-linter contract)."""
