"""Frames of assertion, denial and doubt, each filled with terms of every abnormality.

Frames and terms are written by hand; every combination has to be read rightly, below headings, in
lists and in brackets too.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from uvlm.evaluation.labelling.rules import RulesLabeller
from uvlm.text.abnormalities import ABNORMALITIES

LABELLER = RulesLabeller()
WRITTEN = Path(__file__).parent / "other_styles" / "written_with_the_rules.txt"
LETTERS = "MACPYHLETNOFUXBSRI"  # in the order of ABNORMALITIES

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
        "coronary calcification", "coronary artery calcification", "CAC",
        "calcified coronary arteries",
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
    "Normal thyroid; {} is present.", "Apart from {}, normal study.",
    "Negative for fracture, mild {}.",
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
    "There is no longer any {}.", "{} is excluded.", "{} has been excluded.",
    "{} has not developed.",
    "Impression: No {}.", "IMPRESSION:\n1. No {}.\n2. Normal study.", "Findings: No {}.",
    "There are no findings to suggest {}.", "No radiographic evidence for {}.", "{} - none",
    "Not seen: {}.", "{} (-)", "{} is not present on this study.", "{} is not demonstrated.",
    "Free from {}.", "No fracture, no {}.", "No fracture and no {}.", "No CT evidence of {}.",
    "We see no {}.", "No obvious {}, fracture or pneumothorax.", "Normal, without {}.",
]  # fmt: skip
# What is said of two findings together: the frame, whether A is there, whether B is.
PAIRS = [
    ("No {a}, small {b}.", 0, 1), ("No {a}, mild {b} at the left base.", 0, 1),
    ("{a} without {b}.", 1, 0), ("{a}, no {b}.", 1, 0), ("Mild {a} but no {b}.", 1, 0),
    ("No {a}; {b}.", 0, 1), ("{a} has resolved, leaving {b}.", 0, 1), ("No {a} or {b}.", 0, 0),
    ("{a} is absent and {b} is noted.", 0, 1), ("Neither {a} nor {b} is seen.", 0, 0),
    ("{a}, {b} and fracture.", 1, 1), ("No {a}, {b}, or fracture.", 0, 0),
    ("No {a} (unchanged {b}).", 0, 1), ("{a}: None. {b}: Mild.", 0, 1),
    ("{a}: absent; {b}: present", 0, 1), ("- No {a}\n- {b}", 0, 1), ("1. {a}\n2. No {b}", 1, 0),
    ("{a} is unchanged, {b} has resolved.", 1, 0), ("{a} is absent, and so is {b}.", 0, 0),
    ("{a} has cleared, and {b} is no longer seen.", 0, 0), ("{a} or {b} is not seen.", 0, 0),
    ("The {a} has resolved, as has the {b}.", 0, 0), ("No change in {a}, no {b}.", 1, 0),
    ("Cannot exclude {a}, no {b}.", 1, 0), ("{a} cannot be excluded; {b} is absent.", 1, 0),
    ("No growth of {a}, {b} as before.", 1, 1), ("{a} noted, {b} not seen.", 1, 0),
    ("Except for mild {a}, there is no {b}.", 1, 0), ("Stable {a}, {b} absent.", 1, 0),
    ("Negative for {a}, although mild {b} is present.", 0, 1), ("{a} (no {b}).", 1, 0),
    ("Interval clearing of {a} with residual {b}.", 0, 1), ("No {a}, chronic {b}.", 0, 1),
    ("No {a} is seen, but {b} is present.", 0, 1), ("{a} and {b} have resolved.", 0, 0),
    ("No acute {a}, unchanged {b}, no fracture.", 0, 1), ("Mild {a} is present; {b} is not.", 1, 0),
    ("There is mild {a} without evidence of {b} or fracture.", 1, 0),
    ("Indication: {a}. Findings: {b}.", 0, 1), ("History of {a}. {b} is present.", 0, 1),
    ("There is no {a}, and there is mild {b}.", 0, 1),
    ("{a} persists while {b} has cleared.", 1, 0),
    ("Previously seen {a} has resolved. New {b}.", 0, 1), ("{a} or {b}: [Absent]", 0, 0),
    ("Unchanged {a} and no new {b}.", 1, 0),
]  # fmt: skip


def _fill(frame: str, term: str) -> str:
    text = frame.format(*[term] * frame.count("{}"))
    return text if text[0] in "-[(1?" else text[0].upper() + text[1:]


@pytest.mark.parametrize("name", ABNORMALITIES)
def test_asserting_frames_assert_every_term(name: str) -> None:
    texts = [_fill(frame, term) for frame in ASSERTED for term in TERMS[name]]
    labels = LABELLER.label(texts)[:, ABNORMALITIES.index(name)]
    assert [text for text, label in zip(texts, labels, strict=True) if not label] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ABNORMALITIES)
def test_denying_frames_deny_every_term(name: str) -> None:
    texts = [_fill(frame, term) for frame in DENIED for term in TERMS[name]]
    labels = LABELLER.label(texts)[:, ABNORMALITIES.index(name)]
    assert [text for text, label in zip(texts, labels, strict=True) if label] == []


@pytest.mark.parametrize(("frame", "has_a", "has_b"), PAIRS)
def test_two_findings_in_one_sentence_are_kept_apart(frame: str, has_a: int, has_b: int) -> None:
    wrong = []
    for (a, terms_a), (b, terms_b) in itertools.permutations(TERMS.items(), 2):
        text = frame.format(a=terms_a[0], b=terms_b[0])
        claimed = {ABNORMALITIES[column] for column in LABELLER.label([text])[0].nonzero()[0]}
        wrong += [text] * (claimed != {name for name, there in ((a, has_a), (b, has_b)) if there})
    assert wrong == []


def test_reports_written_with_the_rules_are_still_read_rightly() -> None:
    lines = (WRITTEN.read_text(encoding="utf-8")).splitlines()
    wrong = []
    for line in (line for line in lines if not line.startswith("#")):
        text, letters = line.rsplit(" |", 1)
        (labels,) = LABELLER.label([text.replace("\\n", "\n").replace("\\t", "\t")])
        claimed = {LETTERS[column] for column in labels.nonzero()[0]}
        wrong += [line] * (claimed != set(letters.strip()))
    assert len(lines) > 700
    assert wrong == []
