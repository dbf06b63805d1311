"""The small files of a rehearsal kit: ``gate.toml``, and what checkpoints hold beside weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["CODE", "GATE_TOML", "TOKENISER", "fastesm_settings"]

GATE_TOML = """\
# A rehearsal of the deployment gate: production's settings, and models with random weights. What
# comes of it is marked REHEARSAL and authorises nothing.
seed = 42
device = "{device}"{threads}

[data]
viral = ["data/viral"]
nonviral = ["data/nonviral"]
taxonomy = "data/taxonomy.tsv"

# For the real thing, name the downloaded hub ids here: facebook/esm2_t36_3B_UR50D ...
[baseline]
name = "{prefix}ESM2 3B"
model = "{baseline}"
dtype = "{dtype}"

# ... and Synthyra/FastESM2_650.
[candidate]
name = "{prefix}FastESM2_650"
model = "{candidate}"
dtype = "{dtype}"

# Stands in for DNABERT-S, whose weights cannot be shipped. It is the same for both sides, so that
# the comparison of the proteins' embedders is what it is in production.
[nucleotide]
kind = "kmer"
k = 4

# The test set has 452 sequences. Where that is fewer than `sequences`, all of them are timed.
[timing]
runs = 3
sequences = 1000
attempts = {attempts}
"""

# What the hub's folders hold for tokenisers; the harness has its own, and reads vocab.txt alone.
TOKENISER = {
    "special_tokens_map.json": json.dumps(
        {
            "cls_token": "<cls>",
            "eos_token": "<eos>",
            "mask_token": "<mask>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
        indent=2,
    )
    + "\n",
    "tokenizer_config.json": json.dumps(
        {"model_max_length": 1_000_000_000_000_000_000, "tokenizer_class": "EsmTokenizer"}, indent=2
    )
    + "\n",
}

# The hub's FastESM2 brings code of its own, which a loader that trusts it would run.
CODE = '''\
"""Stands where FastESM2's own code does on the hub. The gate never runs it; this would show."""

from pathlib import Path

Path(__file__).with_name("EXECUTED").touch()
raise RuntimeError("code from a checkpoint's folder was run; the gate must never do that")
'''

# These FastESM2's configuration leaves to defaults in its code.
_LEFT_OUT = (
    "emb_layer_norm_before",
    "is_folding_model",
    "position_embedding_type",
    "token_dropout",
)


def fastesm_settings(esm2: Mapping[str, Any]) -> dict[str, Any]:
    """Return what FastESM2's ``config.json`` says beside the sizes, given what ESM2's does."""
    own = {
        "model_type": "fast_esm",
        "architectures": ["FastEsmForMaskedLM"],
        "auto_map": {
            "AutoConfig": "modeling_fastesm.FastEsmConfig",
            "AutoModel": "modeling_fastesm.FastEsmModel",
            "AutoModelForMaskedLM": "modeling_fastesm.FastEsmForMaskedLM",
        },
    }
    return {name: value for name, value in esm2.items() if name not in _LEFT_OUT} | own
