"""Build the documentation as a site: the pages that mkdocs adds to those in docs/ (`make docs`)."""
