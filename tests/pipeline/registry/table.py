"""Reports and references of a small table."""

from __future__ import annotations

REFERENCES = [
    "Findings: There is a pleural effusion on the left. No nodule. Impression: Pleural effusion.",
    "Findings: Cardiomegaly is seen. Emphysema in both lungs. Impression: Cardiomegaly.",
    "Findings: The lungs are clear. Impression: Normal.",
    "Findings: A nodule of 5 mm in the right upper lobe. Impression: Lung nodule.",
]
REPORTS = [
    "Findings: There is a pleural effusion on the left. No nodule. Impression: Pleural effusion.",
    "Findings: Cardiomegaly is seen. The lungs are clear. Impression: Cardiomegaly.",
    "Findings: Emphysema in both lungs. Impression: Emphysema.",
    "Findings: The lungs are clear. Impression: Normal.",
]
