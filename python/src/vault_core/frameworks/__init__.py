"""Frameworks: each module imports its own when it is imported, and nothing else does."""
