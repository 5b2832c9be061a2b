"""`python -m tui_lab`: the same as the command `tui-lab`."""

from tui_lab.cli.main import main

main()
