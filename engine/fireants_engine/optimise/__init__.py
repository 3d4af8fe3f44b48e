"""How a gradient becomes a direction, how far to go, when to stop."""

from fireants_engine.optimise.adam import Adam, Descent
from fireants_engine.optimise.bound import step_factors
from fireants_engine.optimise.convergence import Stop
from fireants_engine.optimise.levenberg_marquardt import LevenbergMarquardt
from fireants_engine.optimise.sgd import SGD

__all__ = ["SGD", "Adam", "Descent", "LevenbergMarquardt", "Stop", "step_factors"]
