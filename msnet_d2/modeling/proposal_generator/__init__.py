"""Proposal generators; importing registers them with Detectron2."""
