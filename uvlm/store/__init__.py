"""The store: bulk arrays keyed by what made them, and the small manifests that name them.

<store>/raw/...                  files as published
<store>/<stage>/<k>/<key>.b2nd   one array, found again by the key of its inputs
<store>/code/<stage>/...         which code made the stored arrays; see `changed_code`
<store>/workspaces/<key>.json    which workspaces use the store; see `workspaces`
data/manifests/<stage>.jsonl     one sorted row per case: case, key, path, sha256, source, extra
"""

from uvlm.store.arrays import array_path as array_path
from uvlm.store.arrays import array_sha256 as array_sha256
from uvlm.store.arrays import load_array as load_array
from uvlm.store.arrays import load_region as load_region
from uvlm.store.arrays import read_note as read_note
from uvlm.store.arrays import save_array as save_array
from uvlm.store.fanout import CaseProgress as CaseProgress
from uvlm.store.fanout import Shard as Shard
from uvlm.store.fanout import map_cases as map_cases
from uvlm.store.manifest import Refusal as Refusal
from uvlm.store.manifest import Row as Row
from uvlm.store.manifest import check_quarantine_share as check_quarantine_share
from uvlm.store.manifest import read_manifest as read_manifest
from uvlm.store.manifest import read_quarantine as read_quarantine
from uvlm.store.manifest import resolve as resolve
from uvlm.store.manifest import rows_by_case as rows_by_case
from uvlm.store.manifest import write_manifest as write_manifest
from uvlm.store.manifest import write_quarantine as write_quarantine
from uvlm.store.product import BatchProduct as BatchProduct
from uvlm.store.product import Product as Product
from uvlm.store.upkeep import loose_files as loose_files
from uvlm.store.upkeep import remove as remove
from uvlm.store.upkeep import verify as verify
