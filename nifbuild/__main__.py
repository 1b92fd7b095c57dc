"""The command's entry point, also for `python -m nifbuild`."""

from nifbuild.cli.loading import loading


def main() -> None:
    """Runs the command line."""
    with loading():
        from nifbuild.cli.app import main as run
    run()


if __name__ == "__main__":
    main()
