"""What is said of a recording's units: labels, tests on unseen clips, sentences, words, several meanings."""
