"""What is exported: the folder of a run, or a pickled Learner, with all that happens to a photo before the network."""
