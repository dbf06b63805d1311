"""``python -m harness``: the command ``harness``, for launchers that name a module."""

from __future__ import annotations

from harness.cli import main

if __name__ == "__main__":
    main()
