from tui_lab.cli.main import main

main()
