"""``python -m harness.cli``: the command ``harness``, for launchers that name a module."""

from harness.cli import main

if __name__ == "__main__":
    main()
