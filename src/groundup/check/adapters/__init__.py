"""Subjects of other libraries: NumPy pairs, PyTorch, JAX."""
