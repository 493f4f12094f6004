"""The names that tie label columns, classifier outputs and reports together."""

from __future__ import annotations

from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES

# Header of CT-RATE's multi_abnormality_labels tables after the column VolumeName.
CT_RATE_HEADER = (
    "Medical material,Arterial wall calcification,Cardiomegaly,Pericardial effusion,"
    "Coronary artery wall calcification,Hiatal hernia,Lymphadenopathy,Emphysema,Atelectasis,"
    "Lung nodule,Lung opacity,Pulmonary fibrotic sequela,Pleural effusion,"
    "Mosaic attenuation pattern,Peribronchial thickening,Consolidation,Bronchiectasis,"
    "Interlobular septal thickening"
)


def test_abnormalities_are_the_columns_of_ct_rates_label_tables() -> None:
    assert ",".join(ABNORMALITIES) == CT_RATE_HEADER


def test_abdomen_lesions_follow_the_ids_of_abdomen_atlas() -> None:
    assert [name.split()[0] for name in ABDOMEN_LESIONS] == ["Liver", "Kidney", "Pancreatic"]
