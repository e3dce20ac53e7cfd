"""Rules on graded answers: the learned baseline, the sequential test, and what a climb is made of."""
