"""History made again from the log while live events go on, and held against it."""
