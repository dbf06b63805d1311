"""The head and its training: VirNucPro's recipe, the same code for baseline and candidate."""

from harness.training.checkpoints import TrainedHead, load_head, save_head
from harness.training.head import Head
from harness.training.trainer import HeadTrainer, fit_head

__all__ = ["Head", "HeadTrainer", "TrainedHead", "fit_head", "load_head", "save_head"]
