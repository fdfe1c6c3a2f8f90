"""Backbones; importing registers them with Detectron2."""
