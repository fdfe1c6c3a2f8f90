"""Masks as crops and as run lengths."""
