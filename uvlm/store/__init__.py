"""The store: bulk arrays keyed by what made them, and the small manifests that name them.

<store>/raw/...                  files as published
<store>/<stage>/<k>/<key>.b2nd   one array, found again by the key of its inputs
<store>/code/<stage>/...         which code makes what is stored; see `changed_code`
data/manifests/<stage>.jsonl     one sorted row a case: case, key, path, sha256, source, extra
"""

from __future__ import annotations

from uvlm.store.arrays import (
    array_path,
    array_sha256,
    load_array,
    load_region,
    read_note,
    save_array,
)
from uvlm.store.fanout import CaseProgress, Shard, map_cases
from uvlm.store.manifest import (
    Refusal,
    Row,
    check_quarantine_share,
    read_manifest,
    read_quarantine,
    resolve,
    write_manifest,
    write_quarantine,
)
from uvlm.store.product import BatchProduct, Product
from uvlm.store.upkeep import gc, verify

__all__ = [
    "BatchProduct",
    "CaseProgress",
    "Product",
    "Refusal",
    "Row",
    "Shard",
    "array_path",
    "array_sha256",
    "check_quarantine_share",
    "gc",
    "load_array",
    "load_region",
    "map_cases",
    "read_manifest",
    "read_note",
    "read_quarantine",
    "resolve",
    "save_array",
    "verify",
    "write_manifest",
    "write_quarantine",
]
