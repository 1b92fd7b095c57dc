"""The command's entry point, also for `python -m nifbuild`."""

from nifbuild.machine.loading import loading, own_process


def main() -> None:
    """Runs the command line."""
    own_process()
    with loading():
        from nifbuild.cli.app import main as run
    run()


if __name__ == "__main__":
    main()
