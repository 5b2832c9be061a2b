"""The program `tui-lab`, also run by `python -m tui_lab`."""

from tui_lab.util.platforms import refuse_unsupported_system


def main() -> None:
    """Run the command line, on a system that has what it needs."""
    refuse_unsupported_system()
    from tui_lab.cli.main import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
