"""Whether a model file answers as its Learner does: the comparison, its limits, and its reports."""
