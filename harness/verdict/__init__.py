"""The verdict, what it was made from, and what proves it later."""

from __future__ import annotations
