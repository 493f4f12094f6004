"""A draft as DICOM objects in the study of its CT, and a DICOM node that answers with them."""
