"""The chapter of the sample tables."""
