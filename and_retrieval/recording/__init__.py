"""What `record` does and leaves behind: evidence, activations, neuron vectors, and the `Recording` that holds them."""
