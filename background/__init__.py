"""Background tasks that are watched: one that dies is logged, counted and started again."""
