"""Records a network: evidence, activations, neuron vectors, and the `Recording` that holds them."""
