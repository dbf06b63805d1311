"""The head and its training: VirNucPro's recipe, the same code for baseline and candidate."""

from harness.training.checkpoints import load_head, save_head
from harness.training.head import Head
from harness.training.trained import TrainedHead
from harness.training.trainer import fit_head, fit_heads

__all__ = ["Head", "TrainedHead", "fit_head", "fit_heads", "load_head", "save_head"]
