"""The rule on a grader whose verdicts on labelled answers have moved."""
