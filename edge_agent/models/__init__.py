"""Models that come over the broker: fetched, proven, tried beside the old one, rolled back."""
