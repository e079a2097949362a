"""A package in which tables are found by their names."""
