"""The Triton side of the kernel families, one file each; imported when a kernel first runs."""
