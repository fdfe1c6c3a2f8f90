"""Data sets of others, written anew in a layout that this package reads."""
