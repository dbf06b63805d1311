"""A small run: sequences, and settings with tiny random models."""

from __future__ import annotations

from pathlib import Path

SETTINGS = """
device = "cpu"
threads = 1
[data]
viral = ["viral"]
nonviral = ["bacteria"]
[baseline]
name = "baseline"
random_weights = {layers = 1, hidden_size = 16, heads = 1, intermediate_size = 16, seed = 1}
[candidate]
name = "candidate"
random_weights = {layers = 1, hidden_size = 8, heads = 1, intermediate_size = 8, seed = 2}
[nucleotide]
kind = "kmer"
k = 2
[training]
epochs = 6
hidden_dim = 8
learning_rate = "0.02"
"""


def write_sequences(folder: Path) -> Path:
    """Write a small FASTA pair per class, a taxonomy and a gate.toml; return the last."""
    for name, first in (("viral", "ACC"), ("bacteria", "GTT")):
        rows = range(60)
        dna = [first * 3 + "".join("ACGT"[(n // 4**k) % 4] * 3 for k in range(4)) for n in rows]
        ids = [f"{name}{n % 6}_chunk_{n}F1" for n in rows]
        for kind, letters in (
            ("nucleotide", dna),
            ("protein", [f"MK{'ACDEF'[n % 5]}{n}" for n in rows]),
        ):
            texts = [t.translate(str.maketrans("0123456789", "GHIKLMNPQR")) for t in letters]
            lines = [f">{i}\n{t}\n" for i, t in zip(ids, texts, strict=True)]
            (folder / f"{name}_{kind}.fa").write_text("".join(lines))
    path = folder / "gate.toml"
    path.write_text(
        'device = "cpu"\n[data]\nviral = ["viral"]\nnonviral = ["bacteria"]\n'
        '[baseline]\nname = "b"\n[candidate]\nname = "c"\n'
    )
    return path
