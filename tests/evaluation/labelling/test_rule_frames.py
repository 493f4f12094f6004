"""Frames of assertion, denial and doubt, each filled with terms of every abnormality.

Frames and terms are written by hand and independently of the patterns; every combination has to be
read rightly, under headings, in lists and in brackets too.
"""

from __future__ import annotations

import pytest

from uvlm.evaluation.labelling.rules import RulesLabeller
from uvlm.text.abnormalities import ABNORMALITIES

LABELLER = RulesLabeller()

# Noun phrases that can be denied and asserted.
TERMS = {
    "Medical material": [
        "pacemaker", "central venous catheter", "chest tube", "endotracheal tube", "PICC line",
        "port catheter", "nasogastric tube", "coronary stent", "median sternotomy wires",
        "surgical clips", "tracheostomy tube", "pigtail drain", "ICD leads", "spinal hardware",
    ],
    "Arterial wall calcification": [
        "aortic calcification", "calcified plaque in the aortic arch", "aortic wall calcification",
        "atherosclerotic calcification of the thoracic aorta", "vascular calcification",
        "calcification of the great vessels", "mural calcification of the aorta",
    ],
    "Cardiomegaly": ["cardiomegaly", "cardiac enlargement", "enlargement of the heart"],
    "Pericardial effusion": [
        "pericardial effusion", "pericardial fluid", "fluid in the pericardium",
        "effusion in the pericardial sac", "haemopericardium",
    ],
    "Coronary artery wall calcification": [
        "coronary calcification", "coronary artery calcification", "CAC", "calcified coronary arteries",
        "calcified plaque in the LAD", "calcification of the coronary arteries",
        "coronary atherosclerosis",
    ],
    "Hiatal hernia": [
        "hiatal hernia", "hiatus hernia", "sliding hiatal hernia", "paraesophageal hernia",
    ],
    "Lymphadenopathy": [
        "lymphadenopathy", "adenopathy", "enlarged lymph nodes", "mediastinal LAD",
        "enlarged hilar nodes", "axillary adenopathy", "lymph node enlargement",
    ],
    "Emphysema": [
        "emphysema", "centrilobular emphysema", "emphysematous change", "paraseptal emphysema",
        "bullae", "bullous disease",
    ],
    "Atelectasis": [
        "atelectasis", "atelectatic change", "bibasilar atelectasis", "lobar collapse",
        "subsegmental atelectasis", "plate-like atelectasis",
    ],
    "Lung nodule": [
        "pulmonary nodule", "lung nodules", "nodules", "GGN", "part-solid nodule", "micronodules",
        "ground-glass nodule",
    ],
    "Lung opacity": [
        "ground-glass opacity", "GGO", "ground glass opacities", "airspace opacity", "opacities",
        "airspace disease", "hazy density", "ground-glass attenuation",
    ],
    "Pulmonary fibrotic sequela": [
        "fibrosis", "scarring", "pulmonary fibrosis", "fibrotic bands", "apical scarring",
        "fibrotic change", "parenchymal bands", "pleuroparenchymal scarring",
    ],
    "Pleural effusion": [
        "pleural effusion", "effusion", "pleural fluid", "hydropneumothorax", "bilateral effusions",
        "empyema", "hemothorax", "fluid in the pleural space",
    ],
    "Mosaic attenuation pattern": ["mosaic attenuation", "mosaic perfusion", "mosaicism"],
    "Peribronchial thickening": [
        "peribronchial thickening", "peribronchial cuffing", "peribronchial wall thickening",
    ],
    "Consolidation": [
        "consolidation", "airspace consolidation", "consolidative change", "focal consolidation",
    ],
    "Bronchiectasis": [
        "bronchiectasis", "bronchial dilatation", "dilated bronchi", "traction bronchiectasis",
        "bronchiectatic change",
    ],
    "Interlobular septal thickening": [
        "interlobular septal thickening", "septal thickening", "thickened interlobular septa",
        "Kerley B lines", "thickening of the interlobular septa",
    ],
}  # fmt: skip

ASSERTED = [
    "There is {}.", "{} noted.", "{} is seen.", "{}.", "- {}", "1. {}", "(a) {}", "[{}]",
    "Unchanged {}.", "Stable {}.", "Possible {}.", "{}?", "?{}", "Mild {}.",
    "Impression: {}.", "IMPRESSION:\n1. {}", "Findings: {}.", "Conclusion: 1. {} 2. No fracture.",
    "Cannot exclude {}.", "{} cannot be excluded.", "{} is not excluded.", "Cannot rule out {}.",
    "I am unable to exclude {}.", "{} not entirely excluded.", "{} can not be ruled out.",
    "No significant change in {}.", "No interval change in the {}.", "No worsening of the {}.",
    "No definite change of {}.", "No improvement in {}.", "{}, unchanged.", "{} without fracture.",
    "{}, no pneumothorax.", "No pneumothorax. {}.", "No pneumothorax, mild {}.",
    "No fracture or pneumothorax, small {}.", "No fracture (mild {}).", "No pneumothorax; {}.",
    "No fracture, but {} is present.", "Persistent {}.", "Residual {}.", "{} again noted.",
    "{} has not resolved.", "{} persists.", "Findings consistent with {}.", "Suspected {}.",
    "Known {}.", "Minimal residual {}.", "{} (unchanged).", "{} has partially resolved.",
    "{} has almost completely resolved.", "Near-complete resolution of the {}.",
    "Decreased {}.", "Increasing {}.", "{} as before.", "{}: present", "{}: Yes", "{}: mild",
    "{} (stable), no fracture.", "New {} since the prior study.", "Interval development of {}.",
    "Indication: Cough.\nFindings: {}.", "Technique: CT of the chest.\n\n{}.",
    "Normal thyroid; {} is present.", "Apart from {}, normal study.", "Negative for fracture, mild {}.",
    "{} has not changed.", "{} has not increased.", "Not fractured. {}.", "{} [no change]",
]  # fmt: skip
DENIED = [
    "No {}.", "There is no {}.", "No evidence of {}.", "No {} is seen.", "No {} was identified.",
    "- No {}", "1. No {}", "(b) no {}", "[No {}]", "Without {}.", "Negative for {}.", "Absent {}.",
    "The chest is negative for {}.", "The study is free of {}.", "Clear of {}.", "Lungs: No {}.",
    "The lungs are clear of {}.", "{}: None", "{}: none.", "{}: No", "{}: [None]", "{}: Absent",
    "{}: [Absent]", "{}: Negative", "{}: not seen", "{}: No evidence of {}.", "{}: There is no {}.",
    "{} is absent.", "{} absent.", "{} not seen.", "{} is not seen.", "{} was not identified.",
    "{} has resolved.", "{} is now resolved.", "{}, resolved.", "{} resolved.", "Resolved {}.",
    "{} is no longer apparent.", "{} is no longer appreciated.", "{} no longer seen.",
    "Interval clearing of {}.", "Interval resolution of {}.", "{} has cleared.",
    "Complete resolution of the {}.", "{} has completely resolved.", "{} have disappeared.",
    "No fracture or {}.", "No fracture, {} or pneumothorax.", "No {}, fracture or pneumothorax.",
    "No fracture, pneumothorax, or {}.", "Neither {} nor fracture.", "Neither fracture nor {}.",
    "No {} or fracture is present.", "No fracture, pneumothorax or {} is seen.",
    "Pneumothorax without {}.", "Rib fracture without {} or pneumothorax.", "Lack of {}.",
    "Mild scoliosis, no {}.", "Mild scoliosis and no {}.", "Small thyroid cyst; no {}.",
    "No new {}.", "No definite {}.", "No convincing {}.", "No suspicious {}.", "No residual {}.",
    "Indication: {}.", "Indication: {}?\nFindings: Normal.", "History: {}. Findings: Normal study.",
    "CLINICAL HISTORY:\n{}\n\nFINDINGS:\nNormal.", "Reason for exam: rule out {}.",
    "Comparison: CT of 2019 with {}.", "Technique: {} protocol.", "Hx: {}.", "Hx: ?{}.",
    "Clinical details: known {}.\nCT thorax.\nNormal.", "Clinical information: {}",
    "No fracture ({} absent).", "Normal study (no {}).", "Normal study (previous {} resolved).",
    "{} (resolved).", "Nothing to suggest {}.", "The scan fails to show {}.", "No sign of {}.",
    "There is no longer any {}.", "{} is excluded.", "{} has been excluded.", "{} has not developed.",
    "Impression: No {}.", "IMPRESSION:\n1. No {}.\n2. Normal study.", "Findings: No {}.",
    "There are no findings to suggest {}.", "No radiographic evidence for {}.", "{} - none",
    "Not seen: {}.", "{} (-)", "{} is not present on this study.", "{} is not demonstrated.",
    "Free from {}.", "No fracture, no {}.", "No fracture and no {}.", "No CT evidence of {}.",
    "We see no {}.", "No obvious {}, fracture or pneumothorax.", "Normal, without {}.",
]  # fmt: skip


def _fill(frame: str, term: str) -> str:
    text = frame.format(*[term] * frame.count("{}"))
    return text if text[0] in "-[(1?" else text[0].upper() + text[1:]


@pytest.mark.parametrize("name", ABNORMALITIES)
def test_asserting_frames_assert_every_term(name: str) -> None:
    texts = [_fill(frame, term) for frame in ASSERTED for term in TERMS[name]]
    labels = LABELLER.label(texts)[:, ABNORMALITIES.index(name)]
    assert [text for text, label in zip(texts, labels, strict=True) if not label] == []


@pytest.mark.parametrize("name", ABNORMALITIES)
def test_denying_frames_deny_every_term(name: str) -> None:
    texts = [_fill(frame, term) for frame in DENIED for term in TERMS[name]]
    labels = LABELLER.label(texts)[:, ABNORMALITIES.index(name)]
    assert [text for text, label in zip(texts, labels, strict=True) if label] == []
