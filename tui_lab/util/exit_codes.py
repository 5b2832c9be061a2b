"""The exit codes of every command; README tells what each means."""

DONE, NOT_MET, BAD_USAGE, FAILED, NOT_JUDGED, INTERRUPTED = 0, 1, 2, 3, 4, 130
