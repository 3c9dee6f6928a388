"""DSTformer once more, in float64 numpy and as its definition reads: what the torch form is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
State = Mapping[str, Array]

NORM_EPS = 1e-6


def arrays(state: Mapping[str, Tensor]) -> State:
    return {name: value.detach().double().numpy() for name, value in state.items()}


def representation(state: State, x: Any, heads: int, depth: int, fused: bool = True) -> Array:
    """(B, T, J, R) for (B, T, J, 3)."""
    x = np.asarray(x, np.float64)
    x = _linear(state, "joints_embed", x) + state["pos_embed"][:, None]
    x = x + state["temp_embed"][:, : x.shape[1]]
    for i in range(depth):
        st = _over_frames(state, f"blocks_st.{i}", _over_joints(state, f"blocks_st.{i}", x, heads), heads)
        ts = _over_joints(state, f"blocks_ts.{i}", _over_frames(state, f"blocks_ts.{i}", x, heads), heads)
        share = np.full((*st.shape[:-1], 2), 0.5)
        if fused:
            share = _softmax(_linear(state, f"ts_attn.{i}", np.concatenate([st, ts], axis=-1)))
        x = share[..., :1] * st + share[..., 1:] * ts
    return np.tanh(_linear(state, "pre_logits.fc", _norm(state, "norm", x)))


def motion(state: State, x: Any, heads: int, depth: int, fused: bool = True) -> Array:
    """(B, T, J, 3) for (B, T, J, 3)."""
    return _linear(state, "head", representation(state, x, heads, depth, fused))


def _over_joints(state: State, block: str, x: Array, heads: int) -> Array:
    x = x + _attention(state, f"{block}.attn_s", _norm(state, f"{block}.norm1_s", x), heads)
    return x + _mlp(state, f"{block}.mlp_s", _norm(state, f"{block}.norm2_s", x))


def _over_frames(state: State, block: str, x: Array, heads: int) -> Array:
    turned = _norm(state, f"{block}.norm1_t", x).swapaxes(1, 2)
    x = x + _attention(state, f"{block}.attn_t", turned, heads).swapaxes(1, 2)
    return x + _mlp(state, f"{block}.mlp_t", _norm(state, f"{block}.norm2_t", x))


def _attention(state: State, name: str, x: Array, heads: int) -> Array:
    """Attend over the last axis but one, one head after another."""
    width = x.shape[-1] // heads
    mixed = _linear(state, f"{name}.qkv", x)
    parts = []
    for head in range(heads):
        query, key, value = (mixed[..., (part * heads + head) * width :][..., :width] for part in range(3))
        score = _softmax(query @ key.swapaxes(-1, -2) / math.sqrt(width))
        parts.append(score @ value)
    return _linear(state, f"{name}.proj", np.concatenate(parts, axis=-1))


def _mlp(state: State, name: str, x: Array) -> Array:
    hidden = _linear(state, f"{name}.fc1", x)
    erf = np.vectorize(math.erf)(hidden / math.sqrt(2))
    return _linear(state, f"{name}.fc2", hidden * 0.5 * (1 + erf))


def _norm(state: State, name: str, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPS)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def _linear(state: State, name: str, x: Array) -> Array:
    return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"])


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
