"""The worker's status page and what is served beside it."""
