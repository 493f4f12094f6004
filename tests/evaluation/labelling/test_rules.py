"""The rules labeller on sentences written for it, one family of patterns after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.errors import ConfigError
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.labelling.rules import RulesLabeller, read_patterns
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES

CHEST = RulesLabeller()
ABDOMEN = RulesLabeller(ABDOMEN_LESIONS)


def read(text: str, labeller: RulesLabeller = CHEST) -> set[str]:
    names = ABNORMALITIES if labeller is CHEST else ABDOMEN_LESIONS
    (row,) = labeller.label([text])
    return {name for name, label in zip(names, row, strict=True) if label}


PRESENT = {
    "Medical material": [
        "The tip of the port catheter lies in the right atrium.",
        "A pacemaker was placed on the left, its electrodes end in the right ventricle.",
        "Metallic sutures of a median sternotomy are seen.",
        "There is a stent in the left anterior descending artery.",
        "Nasogastric tube and tracheostomy cannula are in place.",
        "Surgical clips in the gallbladder bed.",
        "Fixation screws are seen in the lower thoracic vertebrae.",
        "Bilateral breast prosthesis.",
    ],
    "Arterial wall calcification": [
        "Calcific plaques are seen in the aortic arch.",
        "Atheromatous plaques are observed in the walls of the supra-aortic branches.",
        "Wall calcifications in the thoracic aorta and coronary arteries.",
        "Calcified atheroma plaques were observed in the main vascular structures.",
    ],
    "Coronary artery wall calcification": [
        "There are calcific plaques in the LAD and RCA.",
        "Calcification of the coronary arteries.",
        "Atheroma plaque in the circumflex artery.",
    ],
    "Cardiomegaly": [
        "Cardiomegaly.",
        "The heart is slightly larger than normal.",
        "Heart sizes have increased.",
        "An increase in heart size is present.",
        "The cardiothoracic ratio has increased in favor of the heart.",
        "CTR slightly increased.",
    ],
    "Pericardial effusion": [
        "Minimal pericardial effusion, 6 mm in its thickest part.",
        "A smear-like effusion is seen in the pericardial space.",
        "Pericardial fluid is present.",
    ],
    "Pleural effusion": [
        "Pleural effusion is present on the right.",
        "Fluid reaching 3 cm is seen between the pleural leaves.",
        "A minimal effusion is observed in the left hemithorax.",
        "Right hydropneumothorax.",
        "Left haemothorax.",
    ],
    "Hiatal hernia": [
        "There is a sliding type hernia at the lower end of the esophagus.",
        "Mild hiatus hernia.",
    ],
    "Lymphadenopathy": [
        "A 7 mm lymph node is observed in the right paratracheal area.",
        "Mediastinal lymph nodes not reaching pathological size are observed.",
        "Calcified hilar lymph nodes are present.",
        "Conglomerate mediastinal lymphadenopathies.",
        "Multiple LAPs in the aortopulmonary window.",
    ],
    "Emphysema": [
        "Centrilobular emphysematous changes in the upper lobes.",
        "A bulla of 3 cm is seen in the right apex.",
        "Bleb formation in the left apex.",
    ],
    "Atelectasis": [
        "Linear atelectasis in the middle lobe.",
        "Passive atelectatic changes are seen beside the effusion.",
    ],
    "Lung nodule": [
        "A nodule of 4 mm is seen in the right upper lobe.",
        "Several millimetric nonspecific nodules in both lungs.",
        "A ground glass nodule is observed in the left apex.",
        "Metastatic nodules in both lungs.",
    ],
    "Lung opacity": [
        "Patchy ground-glass areas in the lower lobes.",
        "Frosted glass densities are seen in both lungs.",
        "Peripheral opacities in both lungs.",
        "Dependent density increases are observed in both lower lobes.",
        "There is an increase in density in the posterior segment of the upper lobe.",
    ],
    "Pulmonary fibrotic sequela": [
        "Pleuroparenchymal sequela changes at both apices.",
        "Fibrotic recessions in the left upper lobe.",
        "Fibroatelectasis is observed in the lingula.",
        "A parenchymal band extends to the pleura.",
    ],
    "Mosaic attenuation pattern": [
        "Mosaic attenuation is observed in both lungs.",
        "Mosaic perfusion (small airway disease?).",
    ],
    "Peribronchial thickening": [
        "Peribronchial thickening in the lower lobes.",
        "There is a diffuse increase in peribronchial wall thickness.",
        "Mild thickening of the peribronchial sheath.",
    ],
    "Consolidation": [
        "A consolidation with air bronchograms is seen in the right lower lobe.",
        "Consolidative areas in the lingula.",
    ],
    "Bronchiectasis": [
        "Cylindrical bronchiectasis in the middle lobe.",
        "Traction bronchiectasis.",
        "Diffuse mild ectasia is seen in the bronchial structures.",
        "The bronchi are slightly dilated.",
    ],
    "Interlobular septal thickening": [
        "Interlobular septal thickening at the bases.",
        "Thickenings are seen in the interlobular septa.",
        "Prominence of the interlobular septa.",
        "Interstitial thickening in both lungs.",
    ],
}
ABSENT = {
    "Medical material": [
        "Findings consistent with pneumonia; displacement of the trachea, no contrast enhancement.",
        "Contrast material was not given.",
        "Peritoneal implants are seen.",
        "Osteophytes at the end plates of the vertebrae.",
        "The central venous catheter was removed.",
    ],
    "Arterial wall calcification": [
        "Calcific plaques are seen in the coronary arteries.",
        "Atheroma plaques in the left anterior descending artery.",
        "Calcified lymph nodes at the aortopulmonary window.",
        "The aortic valve is calcified.",
        "The thoracic aorta is dilated, there are calcified nodules in both lungs.",
    ],
    "Coronary artery wall calcification": [
        "Calcific plaques are seen in the aortic arch.",
        "No calcification was detected in the coronary arteries.",
    ],
    "Cardiomegaly": [
        "Heart contour and size are normal.",
        "No increase in heart size was observed.",
        "The calibration of the aorta has increased, the heart is normal.",
    ],
    "Pericardial effusion": [
        "Pericardial effusion-thickening was not observed.",
        "Pericardial effusion - no thickening was detected.",
        "No pleural or pericardial effusion.",
        "The pericardium is thickened.",
    ],
    "Pleural effusion": [
        "Pleural effusion-thickening was not detected.",
        "Minimal pericardial effusion.",
        "A perirenal effusion is seen on the left.",
        "There is a small effusion around the spleen.",
        "Effusion is observed in the pericardial space.",
    ],
    "Hiatal hernia": ["Umbilical hernia.", "Hiatal hernia was not observed."],
    "Lymphadenopathy": [
        "No enlarged lymph nodes were detected in the mediastinum.",
        "An intrapulmonary lymph node is seen on the fissure.",
        "Lymph node stations are normal.",
        "A lesion of 1 cm in the left breast (lymph node?).",
    ],
    "Emphysema": ["Subcutaneous emphysema in the chest wall.", "A parenchymal air cyst is seen."],
    "Atelectasis": [
        "Fibroatelectasis in the lingula.",
        "Volume loss in the left lung.",
        "No atelectasis is seen.",
    ],
    "Lung nodule": [
        "A hypodense nodule in the left thyroid lobe.",
        "Schmorl nodules in the thoracic end plates.",
        "A nodular lesion in the right adrenal gland.",
        "Nodular consolidation in the right lung.",
        "No mass or nodule was detected in either lung.",
    ],
    "Lung opacity": [
        "Liver parenchyma density is diffusely decreased.",
        "Pleuroparenchymal sequela density increases at the apices of both lungs.",
        "Consolidation in the left lower lobe.",
        "No ground-glass density or infiltration was observed.",
        "A stone opacity in the gallbladder.",
    ],
    "Pulmonary fibrotic sequela": [
        "Sequela of a fracture in the 5th rib.",
        "Fibroglandular tissue of the breast is dense.",
        "Chronic sequela changes in the left kidney.",
    ],
    "Mosaic attenuation pattern": ["Air trapping in both lungs.", "No mosaic attenuation."],
    "Peribronchial thickening": [
        "Bronchial wall thickening in the lower lobes.",
        "Peribronchial ground-glass areas and thickening of the pleura.",
        "Peribronchial lymph nodes are seen.",
    ],
    "Consolidation": [
        "Ground-glass consolidations in both lungs.",
        "In the previous examination, consolidation was observed in the right lung.",
        "The consolidation seen before has completely resolved.",
    ],
    "Bronchiectasis": [
        "Atelectasis in the middle lobe.",
        "Both main bronchi are open.",
        "Ectasia of the ascending aorta.",
    ],
    "Interlobular septal thickening": [
        "A crazy paving pattern is seen.",
        "A nodule beside the interlobular fissure.",
        "No septal thickening.",
    ],
}


def test_every_abnormality_has_sentences_for_and_against_it() -> None:
    assert set(PRESENT) == set(ABSENT) == set(ABNORMALITIES)


@pytest.mark.parametrize("name", ABNORMALITIES)
def test_sentences_that_claim_an_abnormality(name: str) -> None:
    assert [s for s in PRESENT[name] if name not in read(s)] == []


@pytest.mark.parametrize("name", ABNORMALITIES)
def test_sentences_that_do_not(name: str) -> None:
    assert [s for s in ABSENT[name] if name in read(s)] == []


@pytest.mark.parametrize("name", ABNORMALITIES)
@pytest.mark.parametrize("denial", ["No {} was observed.", "There is no evidence of {}."])
def test_a_denied_sentence_claims_nothing(name: str, denial: str) -> None:
    noun = {
        "Medical material": "catheter or pacemaker",
        "Lung opacity": "ground-glass opacity",
        "Arterial wall calcification": "calcification of the aorta",
        "Pulmonary fibrotic sequela": "fibrosis",
    }.get(name, name.lower())
    assert name in read(f"There is {noun}.")
    assert name not in read(denial.format(noun))
    assert name not in read(f"{noun.capitalize()} was not detected.")


def test_a_normal_report_claims_nothing() -> None:
    normal = (
        "The trachea and both main bronchi are open. Mediastinal vascular structures, heart "
        "contour and size are natural. Pericardial effusion or thickening was not detected. "
        "No lymph node in pathological size was seen. No active infiltration, mass or nodule was "
        "found in either lung. Upper abdominal organs are normal."
    )
    assert read(normal) == set()


def test_one_assertion_is_enough_wherever_it_stands() -> None:
    assert read("Findings: No nodule is seen. Impressions: A nodule of 3 mm in the lung.") == {
        "Lung nodule"
    }
    assert read("No nodule. Cardiomegaly. No effusion.") == {"Cardiomegaly"}


@pytest.mark.parametrize(
    "text",
    [
        "Nodule?",
        "An appearance that may be compatible with a nodule.",
        "A nodule cannot be excluded.",
    ],
)
def test_a_guess_counts_as_present(text: str) -> None:
    assert read(text) == {"Lung nodule"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stable nodules, no significant change in size was detected.", {"Lung nodule"}),
        ("The nodule was not observed in the previous examination.", {"Lung nodule"}),
        ("The nodule of the previous examination is not observed in the current one.", set()),
        ("The effusion on the right was not detected in the current examination.", set()),
        ("Regressed pleural effusion is observed on the left.", {"Pleural effusion"}),
        ("Emphysema has increased compared to the previous examination.", {"Emphysema"}),
    ],
)
def test_comparisons_with_an_earlier_examination(text: str, expected: set[str]) -> None:
    assert read(text) == expected


UNUSUAL = "Findings: There are nodules in both lungs. No pleural effusion was seen. Cardiomegaly."


@pytest.mark.parametrize(
    "text",
    [
        UNUSUAL.upper(),
        UNUSUAL.replace(" ", "\r\n"),
        UNUSUAL.replace(". ", ".\r\n\r\n"),
        UNUSUAL.replace(". ", "\n\u2022 "),
        UNUSUAL.replace(". ", '" "'),
        "  " + UNUSUAL.replace(" ", "  \t"),
        UNUSUAL.removesuffix("."),
        UNUSUAL.replace(".", ""),
        UNUSUAL.replace("Findings: ", ""),
    ],
    ids=["capitals", "broken lines", "paragraphs", "bullets", "quotes", "blanks", "open end",
         "no punctuation", "no heading"],
)  # fmt: skip
def test_unusual_ways_of_writing_are_read_alike(text: str) -> None:
    assert read(text) >= {"Lung nodule", "Cardiomegaly"}
    assert "Pleural effusion" not in read(text)


def test_an_empty_text_claims_nothing() -> None:
    assert CHEST.label(["", " \n", "...", "?!"]).tolist() == [[0] * 18] * 4
    assert CHEST.label([]).shape == (0, 18)


def test_a_text_that_repeats_itself_without_end_is_read_in_time() -> None:
    labels = CHEST.label(["no nodule was seen and " * 3000, "nodule, pericardial " * 3000])
    assert labels[:, ABNORMALITIES.index("Lung nodule")].tolist() == [0, 1]


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.text(max_size=300))
def test_no_text_breaks_it_and_sentences_do_not_influence_each_other(text: str) -> None:
    alone = CHEST.label([text])[0]
    follower = CHEST.label([f"Cardiomegaly.\n\n{text}"])[0]
    first = CHEST.label(["Cardiomegaly."])[0]
    assert follower.tolist() == np.maximum(alone, first).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Liver lesion 1: hepatic segment 2, hypoattenuating.", {"Liver lesion"}),
        ("Simple cortical cysts in both kidneys.", {"Kidney lesion"}),
        ("A mass of 3 cm in the head of the pancreas.", {"Pancreatic lesion"}),
        ("Hypodense lesions in the liver and a cyst in the left kidney.",
         {"Liver lesion", "Kidney lesion"}),
        ("The liver, pancreas and kidneys are unremarkable.", set()),
        ("No focal lesion in the liver, pancreas or kidneys.", set()),
        ("Liver density is decreased, hepatosteatosis.", set()),
        ("The liver has a diffuse hypodense appearance due to steatosis.", set()),
        ("A mass that partly enters the section lies in the tail of the pancreas, metastatic "
         "lesions in the liver.", {"Liver lesion", "Pancreatic lesion"}),
        ("Polycystic kidneys.", {"Kidney lesion"}),
        ("A mass of 2 cm in the left adrenal gland.", set()),
        ("Kidney stones. Splenic cyst.", set()),
        ("Liver lesions: None.", set()),
    ],
)  # fmt: skip
def test_lesions_of_the_abdomen_are_a_label_set_of_their_own(text: str, expected: set[str]) -> None:
    assert read(text, ABDOMEN) == expected


def test_labels_come_in_the_order_asked_for() -> None:
    labels = RulesLabeller(["Emphysema", "Cardiomegaly"]).label(["Cardiomegaly.", "Emphysema."])
    assert labels.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ConfigError, match="no patterns for Fracture"):
        RulesLabeller(["Fracture"])


def test_it_is_found_by_its_name() -> None:
    labeller = get_labeller("rules")
    assert labeller.name == "rules"
    assert labeller.label(["Cardiomegaly."]).sum() == 1


def test_every_abnormality_has_exactly_one_rule_and_its_stems_are_lower_case() -> None:
    *_, rules = read_patterns()
    assert set(rules) == {*ABNORMALITIES, *ABDOMEN_LESIONS}
    assert all(stem == stem.lower() for rule in rules.values() for stem in rule.stems)
