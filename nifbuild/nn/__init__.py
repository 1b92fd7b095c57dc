"""Plain PyTorch modules and functions; they know nothing of specs."""
