"""The weights of a released reader again, to go on training from: `--resume edged/models/intent` of `training.intent.train`.

What int8 rounded away stays away, which is far less than a step of training changes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

__all__ = ["reader_weights"]

_FIRST, _LAST = 2, 3  # layers: those of `glance.onnx`, and the one that is computed only where the heads look
_LAYER = ("qkv", "out", "up", "down")


def reader_weights(folder: Path) -> dict[str, Tensor]:
    """The state of `network.Reader` as far as `folder`'s ground.onnx, glance.onnx and reader.onnx hold it: all that is trained."""
    ground, glance, second = (_Graph(folder / f"{name}.onnx") for name in ("ground", "glance", "reader"))
    state = ground.named | glance.named | second.named
    state["rise.weight"] = ground.matrices.pop(0)
    for i in range(_FIRST):
        state |= {f"layers.{i}.{name}.weight": glance.matrices.pop(0) for name in _LAYER}
    state["same"] = torch.stack(glance.others)
    names = [f"layers.{i}.{name}" for i in range(_FIRST, _LAST) for name in _LAYER]
    state |= {f"{name}.weight": second.matrices.pop(0) for name in names}
    state[f"layers.{_LAST}.qkv.weight"] = torch.cat([second.matrices.pop(0), second.matrices.pop(0)])
    state[f"layers.{_LAST}.qkv.bias"] = torch.cat(second.others)
    names = [*(f"layers.{_LAST}.{name}" for name in _LAYER[1:]), "query", "key", "absent", "option"]
    state |= {f"{name}.weight": second.matrices.pop(0) for name in names}
    return state


class _Graph:
    """What an exported graph holds: tensors under their names in `Reader`, and, in the order of their use, the int8 matrices as
    floats (out, in) and the vectors that lost their names."""

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        held = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in onnx.load(path).graph.initializer}
        self.named: dict[str, Tensor] = {}
        self.matrices: list[Tensor] = []
        self.others: list[Tensor] = []
        for name, tensor in held.items():
            stem, ours = name.removesuffix("_quantized"), name.removeprefix("reader.")
            if stem != name:
                matrix = ((tensor.float() - held[f"{stem}_zero_point"].float()) * held[f"{stem}_scale"]).T.contiguous()
                if stem.startswith("reader."):
                    self.named[stem.removeprefix("reader.")] = matrix
                else:
                    self.matrices.append(matrix)
            elif ours != name and not name.endswith(("_scale", "_zero_point")):
                self.named[ours] = tensor
            elif tensor.dtype == torch.float32 and not name.endswith("_scale"):
                self.others.append(tensor)
