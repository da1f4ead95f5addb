"""What others may see of an agent, and what each makes of it."""
