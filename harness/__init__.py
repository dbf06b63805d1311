"""The acceptance gate for a new protein embedder in VirNucPro.

The parts are useful on their own; import them from :mod:`harness.data`, :mod:`harness.embedding`,
:mod:`harness.training` and :mod:`harness.criteria`. Importing this package alone stays light:
no torch.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
