"""What is said of a run's units: labels, tests on unseen clips, sentences, words, several meanings."""
