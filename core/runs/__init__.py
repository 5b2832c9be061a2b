"""Run folders: recording, opening, listing, querying, exporting and deleting them."""
