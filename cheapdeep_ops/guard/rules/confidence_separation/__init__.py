"""Rules on whether confidence separates correct answers from incorrect ones."""
