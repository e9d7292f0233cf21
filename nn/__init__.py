"""A minimal NumPy network."""

from .activations import ACTIVATIONS, Activation, Identity, Relu, Sigmoid, Softplus, Tanh
from .dense import Dense
from .mlp import MLP

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "Dense",
    "Identity",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Tanh",
]
