"""Reports on runs and sweeps: one self-contained HTML file, and plots."""
