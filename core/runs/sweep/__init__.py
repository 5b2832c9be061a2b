"""A sweep on disk: its search space, its plan, its folder, and who trains which trial."""
