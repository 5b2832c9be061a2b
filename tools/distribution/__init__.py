"""`make dist`: build what is published, check it, and try it in a fresh environment as a new user would."""
