"""The captured step: on CUDA a training step is recorded once and replayed."""
