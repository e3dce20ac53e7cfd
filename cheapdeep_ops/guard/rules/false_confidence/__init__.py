"""Rules on graded answers: the learned baseline, the sequential test, and the cause of a climb."""
