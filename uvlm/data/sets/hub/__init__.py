"""Files of a data set on the Hugging Face hub: by exact name, of one commit, verified.

client.py    requests with patient retries, and errors that say what to do
listing.py   the commit, and the size and digest of every wanted file, as the hub publishes them
fetch.py     downloads: resumed, verified, renamed
snapshot.py  the three together, for one folder of the store
"""

from __future__ import annotations

from uvlm.data.sets.hub.client import Hub, Patience, Repo
from uvlm.data.sets.hub.listing import HubFile, pin
from uvlm.data.sets.hub.snapshot import Snapshot

__all__ = ["Hub", "HubFile", "Patience", "Repo", "Snapshot", "pin"]
