"""Similarities: terms that compare the two views."""

from fireants_engine.similarity.base import Loss, Term, mean_weights
from fireants_engine.similarity.dice import Dice
from fireants_engine.similarity.landmarks import LandmarkDistance
from fireants_engine.similarity.lncc import LNCC
from fireants_engine.similarity.mutual_information import MutualInformation
from fireants_engine.similarity.ncc import NCC
from fireants_engine.similarity.ssd import SSD
from fireants_engine.similarity.structural import Structural

__all__ = [
    "LNCC",
    "NCC",
    "SSD",
    "Dice",
    "LandmarkDistance",
    "Loss",
    "MutualInformation",
    "Structural",
    "Term",
    "mean_weights",
]
