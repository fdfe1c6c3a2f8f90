"""Detection of one video, or of many, in several processes or on several machines."""
