"""`python -m veza` is the `veza` command."""

from veza.cli import main

if __name__ == "__main__":
    main()
