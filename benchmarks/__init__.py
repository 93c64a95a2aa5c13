"""What the paper prints, what was measured here, and how the two compare."""
