"""The frame path: heads and fallbacks, what is in flight, and the way to a worker and back."""
