"""Masks as crops and as run lengths, parents of parts, duplicates."""
