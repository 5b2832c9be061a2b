"""Build the documentation as a site: what mkdocs is told to add to docs/ (`make docs`)."""
