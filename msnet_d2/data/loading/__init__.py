"""From dataset dicts to batches: mapping, sampling, frames of videos."""
