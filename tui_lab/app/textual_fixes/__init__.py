"""Workarounds for defects in Textual and Rich, one file a defect."""
