"""A DICOM node on this computer: an archive sends it CTs, and it sends drafts back."""
