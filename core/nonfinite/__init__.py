"""What became infinite or NaN first in a step, found by replaying it."""
