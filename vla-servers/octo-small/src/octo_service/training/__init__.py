"""Training of Octo: the reference's losses, optimizer and data transforms, step for step."""

from octo_service.training.learning_rates import Constant, Cosine, InverseSquareRoot
from octo_service.training.losses import loss_fn
from octo_service.training.optimizer import FROZEN_KEYS, Optimizer, create_optimizer
from octo_service.training.state_file import load_state, save_state
from octo_service.training.trainer import Trainer, TrainState, trained

__all__ = [
    "FROZEN_KEYS",
    "Constant",
    "Cosine",
    "InverseSquareRoot",
    "Optimizer",
    "TrainState",
    "Trainer",
    "create_optimizer",
    "load_state",
    "loss_fn",
    "save_state",
    "trained",
]
