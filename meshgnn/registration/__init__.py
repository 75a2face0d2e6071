"""Correspondence between brains: hemispheres laid on spheres, and registered by their folds.

N vertices of a closed surface, V of the mesh that it comes from (flaps and stray vertices included), F faces, C
features. Spheres are unit vectors within, of radius 100 mm outside.
"""

from meshgnn.registration.brains import RegisteredBrain, register_brain, register_hemispheres
from meshgnn.registration.match import Match, Measures, resample, resample_labels
from meshgnn.registration.register import Registration
from meshgnn.registration.sphere import Hemisphere, SphericalMap

__all__ = [
    "Hemisphere",
    "Match",
    "Measures",
    "RegisteredBrain",
    "Registration",
    "SphericalMap",
    "register_brain",
    "register_hemispheres",
    "resample",
    "resample_labels",
]
