"""Whether a log's motion is the picture's: measured, predicted, compared, and mended where sure."""
