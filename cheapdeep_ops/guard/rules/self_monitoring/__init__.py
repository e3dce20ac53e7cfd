"""Rules on the routers, the grader and the guard itself."""
