"""The doctor examined: every mistake in every design, and designs without one."""
