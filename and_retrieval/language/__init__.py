"""Words: the local language model, what it is asked, and words found without it."""
