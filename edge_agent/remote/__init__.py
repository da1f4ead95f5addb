"""What others on the broker see of an agent beside its answers, and what they may ask of it."""
