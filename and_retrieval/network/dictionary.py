"""Learned dictionaries: a sparse autoencoder behind a layer, whose features are explained, searched and masked.

    z = activation(W_enc (x - b_pre) + b_enc)        x: the layer's units at one position, z: features

The dictionary listens to the layer and normally changes nothing: the network's output keeps its very bits.
Only when features are masked does the layer put out x + W_dec (z' - z), so that what the dictionary leaves
unexplained stays in place and a removed feature takes nothing but its own decoder direction with it.

Activations: ReLU; TopK, the k largest of a position, those above zero (Makhzani and Frey 2013; Gao et al. 2024);
JumpReLU, what exceeds the feature's own threshold, 0 otherwise (Rajamanoharan et al. 2024); linear, the number itself,
for directions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import nn

from ..errors import InputError, unknown_name
from ..files import sha256, write_bytes
from ..types import AttachedDictionary, Target
from .choice import match_layers, resolve_pooling
from .dictionary_files import are_directions, directions, folder_arguments, read_tensors
from .hooks import tensor_of
from .layers import TRIAL_SECONDS, plan_layers
from .mask import rebuilt

NAME, FEATURES = "dictionary", "features"
Made = TypeVar("Made")
ACTIVATIONS = ("relu", "topk", "jumprelu", "linear")

# Each tensor's names in files, and whether the file holds it transposed: first our own spelling, then SAELens'.
SPELLINGS: Mapping[str, tuple[tuple[str, bool], ...]] = {
    "encoder": (("encoder.weight", False), ("W_enc", True)),
    "encoder_bias": (("encoder.bias", False), ("b_enc", False)),
    "decoder": (("decoder.weight", False), ("W_dec", True)),
    "decoder_bias": (("decoder.bias", False), ("b_dec", False)),
    "threshold": (("threshold", False),),
}
KNOWN = frozenset(name for spellings in SPELLINGS.values() for name, _ in spellings)
LIKELY_ACTIVATION = (
    "activation=relu, activation=topk with k=32, or activation=jumprelu with a tensor 'threshold'"
)


class Dictionary(nn.Module):
    """A sparse autoencoder over the units of one layer.

    Its weights are buffers, so it has no layer but `features`, the place where features are recorded and masked.

    Attributes:
        encoder: float32 [features, units].
        encoder_bias: float32 [features].
        decoder: float32 [units, features], or None; without it features cannot be masked.
        decoder_bias: float32 [units]; with `pre_bias` it is taken off before encoding.
        threshold: float32 [features] of JumpReLU, or None.
        kept: float32 [features], ones; a zero removes the feature for good, as masking does for a while.
        source: File it was read from and that file's sha256, or None.
        unit_axis, time_axis: Of the layer's output, from 0; set by `attach`.
    """

    encoder: torch.Tensor
    encoder_bias: torch.Tensor
    decoder: torch.Tensor | None
    decoder_bias: torch.Tensor
    threshold: torch.Tensor | None
    kept: torch.Tensor

    def __init__(
        self,
        encoder: torch.Tensor,
        encoder_bias: torch.Tensor,
        decoder: torch.Tensor | None = None,
        decoder_bias: torch.Tensor | None = None,
        *,
        activation: str = "relu",
        k: int | None = None,
        threshold: torch.Tensor | None = None,
        pre_bias: bool = False,
    ) -> None:
        """Tensors as in `Attributes`, of any floating type; `k` is TopK's, `activation` one of `ACTIVATIONS`.

        Raises:
            InputError: The shapes do not fit together, a value is not finite, or the activation is not
                given what it needs.
        """
        super().__init__()
        if encoder.ndim != 2 or not encoder.numel():
            raise InputError(f"the encoder's weight is {list(encoder.shape)}, not [features, units]")
        features, units = encoder.shape
        bias = torch.zeros(units) if decoder_bias is None else decoder_bias
        _check("the encoder's weight", encoder, (features, units))
        _check("the encoder's bias", encoder_bias, (features,))
        _check("the decoder's weight", decoder, (units, features))
        _check("the decoder's bias", bias, (units,))
        _check("threshold", threshold, (features,))
        _check_activation(activation, k, threshold, features)
        if pre_bias and decoder_bias is None:
            raise InputError("pre_bias is true, but there is no b_dec to take off before encoding")
        self.activation, self.k, self.pre_bias = activation, k, pre_bias
        self.source: tuple[Path, str] | None = None
        self.unit_axis, self.time_axis = -1, None  # type: int, int | None
        self.features = nn.Identity()
        tensors = {"encoder": encoder, "encoder_bias": encoder_bias, "decoder": decoder, "decoder_bias": bias}
        for name, tensor in {**tensors, "threshold": threshold, "kept": torch.ones(features)}.items():
            self.register_buffer(name, None if tensor is None else tensor.detach().float().contiguous())

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Units [..., units] -> features, float32 [..., features], at least 0 unless the activation is linear."""
        x = x.float() - self.decoder_bias if self.pre_bias else x.float()
        raw = nn.functional.linear(x, self.encoder, self.encoder_bias)
        if self.threshold is not None:
            return torch.where(raw > self.threshold, raw, 0.0)
        if self.activation == "topk":
            values, places = raw.topk(self.k or 1, dim=-1)
            return torch.zeros_like(raw).scatter(-1, places, values.relu())
        return raw if self.activation == "linear" else raw.relu()

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Features [..., features] -> what they say of the units, float32 [..., units].

        Raises:
            InputError: The dictionary has no decoder.
        """
        return nn.functional.linear(z, self._decoder(), self.decoder_bias)

    def forward(self, output: Any) -> Any:
        """The layer's output itself, or, where features were masked, without what they stand for."""
        x = tensor_of(NAME, output)
        z = self.encode(x.movedim(self.unit_axis, -1)).movedim(-1, self.unit_axis)
        # A hook may write into what it is given, so it gets a copy.
        masked = self.features(z.clone()).movedim(self.unit_axis, -1) * self.kept
        change = masked - z.movedim(self.unit_axis, -1)
        if not change.any():
            return output
        removed = nn.functional.linear(change, self._decoder()).movedim(-1, self.unit_axis)
        return rebuilt(NAME, output, x + removed.to(x.dtype))

    def _decoder(self) -> torch.Tensor:
        if self.decoder is None:
            raise InputError(
                "the dictionary has no decoder, so its features cannot be masked; add decoder.weight to its file"
            )
        return self.decoder


def attach(
    target: Target,
    layer: str,
    dictionary: Dictionary,
    *,
    seconds: Sequence[float] = TRIAL_SECONDS,
    axes: tuple[int, int | None] | None = None,
) -> Target:
    """The target with a dictionary behind one layer: `LAYER.dictionary.features` is a layer like any other.

    The network itself gets the dictionary as a submodule of the layer. Its features are pooled as the layer is,
    and recorded besides the target's own layers where none are named.

    Args:
        target: In eval mode.
        layer: Dotted name of the layer whose units the dictionary was trained on.
        dictionary: Not attached elsewhere; it goes where the network is.
        seconds: Lengths of noise that find the layer's axes, see `layers.plan_layers`.
        axes: Unit and time axis of the layer's output where they are known; else the network is shown noise.

    Raises:
        InputError: There is no such layer, it has another number of units, or a dictionary already.
    """
    match_layers(target.module, (layer,))  # names close matches
    modules = dict(target.module.named_modules())
    if layer not in modules:
        raise InputError(f"a dictionary belongs to one layer, {layer!r} is a glob")
    if hasattr(modules[layer], NAME):
        raise InputError(f"layer {layer!r} has a dictionary already")
    units = dictionary.encoder.shape[1]
    if axes is None:
        plan = plan_layers(target, (layer,), device=target.device, seconds=seconds)[0]
        axes = plan.unit_axis, plan.time_axis
        if plan.units != units:
            where = f"{dictionary.source[0]}: " if dictionary.source else ""
            raise InputError(f"{where}the dictionary is for {units} units, layer {layer!r} has {plan.units}")
    dictionary.unit_axis, dictionary.time_axis = axes
    _insert(modules[layer], layer, dictionary.to(target.device).eval())
    name = f"{layer}.{NAME}.{FEATURES}"
    return dataclasses.replace(
        target,
        # First, for a glob such as `*` would otherwise part the features from their layer.
        pooling={name: resolve_pooling(target, (layer,), ())[layer], **target.pooling},
        unit_axis={name: axes[0], **target.unit_axis},
        time_axis={name: axes[1], **target.time_axis},
        layers=(*target.layers, name),
    )


def attached(target: Target) -> tuple[AttachedDictionary, ...]:
    """The dictionaries of a target, in module order."""
    dictionaries = []
    for name, module in target.module.named_modules():
        if isinstance(module, Dictionary):
            path, digest = module.source or (None, None)
            layer = name.removesuffix(f".{NAME}")
            dictionaries.append(
                AttachedDictionary(
                    layer, str(path) if path else None, digest, module.unit_axis, module.time_axis
                )
            )
    return tuple(dictionaries)


def load_dictionary(path: str | Path) -> Dictionary:
    """A dictionary from a safetensors file, or from a folder of SAELens or sparsify, see `dictionary_files`.

    A file none of whose tensors has a name below holds directions, vectors in the layer's space.

    Tensors, for n features of a layer of d units: `encoder.weight` [n, d] and `encoder.bias` [n];
    `decoder.weight` [d, n]; `decoder.bias` or `b_dec` [d]; `threshold` [n]. `W_enc` [d, n], `b_enc` and
    `W_dec` [n, d] are read too. Metadata, all of it text: `activation` = relu, topk or jumprelu (which goes
    without saying where there is a threshold), `k` for topk, and, where there is a `b_dec`, `pre_bias` = true
    or false: whether it is taken off before encoding.

    Raises:
        InputError: The file cannot be read, or a tensor or an entry is missing, misshapen or not known.
    """
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise InputError(f"no dictionary at {path}")
    if path.is_dir():
        arguments, digest = _naming(path, lambda: folder_arguments(path))
    else:
        tensors, settings = read_tensors(path)
        digest = sha256(path)

        def stored() -> dict[str, Any]:
            if are_directions(tensors, KNOWN, settings):
                return directions(tensors)
            return {**_tensors(tensors), **_settings(settings, tensors)}

        arguments = _naming(path, stored)
    dictionary = _naming(path, lambda: Dictionary(**arguments))
    dictionary.source = path, digest
    return dictionary


def _naming(path: Path, make: Callable[[], Made]) -> Made:
    """What `make` makes; its errors begin with the path."""
    try:
        return make()
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def save_dictionary(dictionary: Dictionary, path: str | Path) -> None:
    """Write a dictionary as `load_dictionary` reads it."""
    names = {"decoder_bias": "b_dec"}
    tensors = {
        names.get(field, spelling[0][0]): getattr(dictionary, field).cpu()
        for field, spelling in SPELLINGS.items()
        if getattr(dictionary, field) is not None
    }
    settings = {"activation": dictionary.activation, "pre_bias": str(dictionary.pre_bias).lower()}
    if dictionary.k is not None:
        settings["k"] = str(dictionary.k)
    content = save(tensors, settings)
    # The metadata come in any order; sorted, the same dictionary gives the same bytes.
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), separators=(",", ":"), sort_keys=True)
    write_bytes(Path(path), content[:8] + header.encode().ljust(size) + content[8 + size :])


def _insert(module: nn.Module, layer: str, dictionary: Dictionary) -> None:
    try:
        module.add_module(NAME, dictionary)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"layer {layer!r} is a {type(module).__name__}, which takes no dictionary: {error}"
        ) from None
    # A Sequential calls its children one after the other, the new one last.
    if type(module).forward is not nn.Sequential.forward:
        module.register_forward_hook(lambda owner, _inputs, output: getattr(owner, NAME)(output))


def _check(subject: str, tensor: torch.Tensor | None, shape: tuple[int, ...]) -> None:
    if tensor is None:
        return
    if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
        raise InputError(f"{subject} holds values that are no finite numbers ({tensor.dtype})")
    if tuple(tensor.shape) != shape:
        raise InputError(
            f"{subject} is {list(tensor.shape)} where {list(shape)} was expected, going by the encoder's weight"
        )


def _check_activation(activation: str, k: int | None, threshold: torch.Tensor | None, features: int) -> None:
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    if (activation == "topk") != (k is not None) or (k is not None and not 1 <= k <= features):
        raise InputError(
            f"k is {k} with activation {activation}; topk, and no other, takes a k from 1 to {features}"
        )
    if (activation == "jumprelu") != (threshold is not None):
        raise InputError(f"activation {activation} with{'out' * (threshold is None)} a threshold; jumprelu, and no "
                         "other, takes one")  # fmt: skip
    if threshold is not None and (threshold < 0).any():
        raise InputError("a threshold is below 0; is it the threshold's logarithm?")


def _tensors(stored: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The file's tensors under the names of `Dictionary`'s arguments."""
    if strange := sorted(stored.keys() - KNOWN):
        raise InputError(f"tensor {strange[0]!r} is not understood; known: {', '.join(sorted(KNOWN))}")
    tensors: dict[str, Any] = {}
    for field, spellings in SPELLINGS.items():
        there = [(name, transposed) for name, transposed in spellings if name in stored]
        if len(there) > 1:
            raise InputError(
                f"{' and '.join(name for name, _ in there)} are the same thing; keep one of them"
            )
        if not there and field in ("encoder", "encoder_bias"):
            raise InputError(f"no tensor {' or '.join(name for name, _ in spellings)}")
        for name, transposed in there:
            tensors[field] = stored[name].T if transposed and stored[name].ndim == 2 else stored[name]
    return tensors


def _settings(settings: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The file's metadata as `Dictionary`'s arguments; nothing that changes the features is guessed."""
    activation = settings.get("activation", "jumprelu" if "threshold" in tensors else "").lower()
    if not activation:
        raise InputError(f"the metadata name no activation; add {LIKELY_ACTIVATION}")
    k = settings.get("k")
    if k is not None and not k.isdecimal():
        raise InputError(f"k is {k!r} in the metadata, not a number of features")
    pre_bias = settings.get("pre_bias", "" if "b_dec" in tensors else "false").lower()
    if pre_bias not in ("true", "false"):
        raise InputError(
            "the metadata must say pre_bias=true where b_dec is taken off before encoding, else false"
        )
    return {"activation": activation, "k": None if k is None else int(k), "pre_bias": pre_bias == "true"}
