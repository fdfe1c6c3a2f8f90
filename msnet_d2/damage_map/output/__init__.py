"""The files of a map: page, tables, layers, photos."""
