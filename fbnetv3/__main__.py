"""`python -m fbnetv3` is the `fbnetv3` command."""

from fbnetv3.cli import main

if __name__ == "__main__":
    main()
