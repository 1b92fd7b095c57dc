"""`python -m nifbuild`."""

from nifbuild.cli.app import main

if __name__ == "__main__":
    main()
