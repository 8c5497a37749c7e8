"""What a model is called with: one tensor, or several in tuples and dictionaries."""
