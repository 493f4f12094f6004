"""A draft as DICOM objects in the study of its CT."""
