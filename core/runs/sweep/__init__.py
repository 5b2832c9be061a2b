"""A sweep on disk: its search space, its plan, its folder, and which process trains which trial."""
