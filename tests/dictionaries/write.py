"""Writes the folders beside this file with the libraries whose formats they are; rerun only to add a version.

    pip install sae-lens==6.54.12 eai-sparsify==1.3.3; python tests/dictionaries/write.py

Each folder is what the library saves, with random weights, and `expected.safetensors`: some inputs, the features that
the library makes of them, and, where features go back to the same layer, what it makes of the features. The folders
`sae_lens_3_*` were written in the same way by SAELens 3.22, with its `SAE` and `SAEConfig`; 4.4 and 5.11 were compared
once and write the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sae_lens.saes as lens
import torch
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig

UNITS, FEATURES = 6, 9
INTO_ANOTHER = {"d_in": UNITS, "d_sae": FEATURES, "d_out": 4, "apply_b_dec_to_input": False}
SAE = {"d_in": UNITS, "d_sae": FEATURES}
SAE_LENS: dict[str, tuple[Any, Any]] = {
    "standard": (lens.StandardSAE, lens.StandardSAEConfig(**SAE)),
    "standard_bare_input": (lens.StandardSAE, lens.StandardSAEConfig(**SAE, apply_b_dec_to_input=False)),
    "topk": (lens.TopKSAE, lens.TopKSAEConfig(**SAE, k=3)),
    "topk_rescaled": (lens.TopKSAE, lens.TopKSAEConfig(**SAE, k=3, rescale_acts_by_decoder_norm=True)),
    "jumprelu": (lens.JumpReLUSAE, lens.JumpReLUSAEConfig(**SAE)),
    "transcoder": (lens.Transcoder, lens.TranscoderConfig(**INTO_ANOTHER)),
    "skip_transcoder": (lens.SkipTranscoder, lens.SkipTranscoderConfig(**INTO_ANOTHER)),
    "jumprelu_transcoder": (lens.JumpReLUTranscoder, lens.JumpReLUTranscoderConfig(**INTO_ANOTHER)),
    "gated": (lens.GatedSAE, lens.GatedSAEConfig(**SAE)),
}
SPARSIFY = {
    "topk": SparseCoderConfig(num_latents=FEATURES, k=3),
    "transcoder": SparseCoderConfig(num_latents=FEATURES, k=3, transcode=True),
    "skip_transcoder": SparseCoderConfig(num_latents=FEATURES, k=3, transcode=True, skip_connection=True),
}


def drawn(network: Any) -> Any:
    """The network with random weights; thresholds above zero."""
    for name, values in network.named_parameters():
        values.data.copy_(
            torch.randn_like(values).abs() / 3 if "threshold" in name else torch.randn_like(values)
        )
    return network.eval().requires_grad_(False)


def main() -> None:
    """Write them all."""
    torch.manual_seed(0)
    x = torch.randn(7, UNITS)
    here = Path(__file__).parent
    for name, (kind, config) in SAE_LENS.items():
        network = drawn(kind(config))
        network.save_model(here / f"sae_lens_{name}")
        features = network.encode(x)
        expected = {"x": x, "features": features}
        if "transcoder" not in name:
            expected["decoded"] = network.decode(features)
        save_file(expected, here / f"sae_lens_{name}/expected.safetensors")
    for name, config in SPARSIFY.items():
        network = drawn(SparseCoder(UNITS, config))
        network.save_to_disk(here / f"sparsify_{name}")
        encoded = network.encode(x)
        features = torch.zeros(len(x), FEATURES).scatter(-1, encoded.top_indices, encoded.top_acts)
        expected = {"x": x, "features": features}
        if "transcoder" not in name:
            expected["decoded"] = network.decode(encoded.top_acts, encoded.top_indices)
        save_file(expected, here / f"sparsify_{name}/expected.safetensors")


if __name__ == "__main__":
    main()
