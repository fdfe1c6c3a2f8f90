"""Prediction by a trained model: on one image, on many, faster."""

from msnet_d2.inference.predictor import Predictor

__all__ = ["Predictor"]
