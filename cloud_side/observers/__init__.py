"""What others may see of a worker, and what each makes of it."""
