# ruff: noqa: RUF001 - other alphabets
"""Reports in another language are told from English ones, and English ones never refused."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from tests.evaluation.labelling.test_other_styles import read
from tests.speed import cpu_seconds
from uvlm.data.sets.phantom.reports import WORDINGS
from uvlm.text.known_words import OtherLanguageError, check_language, count_known

OTHER = {
    "German": "Keine vergrößerten Lymphknoten mediastinal oder hilär. Kein Pleuraerguss. Herz "
    "normal groß. Im rechten Oberlappen ein 6 mm messender Rundherd. Emphysem beidseits.",
    "German, short": "Unauffälliger Befund.",
    "French": "Absence d'adénomégalie médiastinale ou hilaire. Pas d'épanchement pleural ni "
    "péricardique. Nodule pulmonaire du lobe supérieur droit de 6 mm. Emphysème centrolobulaire.",
    "French, short": "Pas de nodule.",
    "Turkish": "Trakea ve her iki ana bronş açıktır. Mediastinal ana vasküler yapılar, kalp "
    "konturu, boyutu normaldir. Plevral efüzyon saptanmadı. Sağ akciğerde nodül izlendi.",
    "Turkish without its letters": "TORAKS BT: HER IKI ANA BRONS ACIKTIR. PLEVRAL EFUZYON "
    "IZLENMEDI. SAG AKCIGERDE NODUL.",
    "Spanish": "No se observan adenopatías mediastínicas. No hay derrame pleural ni pericárdico. "
    "Nódulo pulmonar sólido de 6 mm en el lóbulo superior derecho. Hernia hiatal.",
    "Italian": "Non si apprezzano linfoadenopatie mediastiniche. Non versamento pleurico. Nodulo "
    "solido di 6 mm nel lobo superiore destro. Enfisema bilaterale.",
    "Portuguese": "Não há derrame pleural. Nódulo pulmonar sólido no lobo superior direito medindo "
    "6 mm. Coração de dimensões normais. Hérnia hiatal.",
    "Dutch": "Geen vergrote lymfeklieren in het mediastinum. Geen pleuravocht. In de rechter "
    "bovenkwab een nodule van 6 mm. Het hart is normaal van grootte.",
    "Danish": "Ingen forstørrede lymfeknuder i mediastinum. Hjertet er normalt i størrelse. Der er "
    "en nodulus i højre lunge.",
    "Indonesian": "Tidak tampak efusi pleura. Tampak nodul pada paru kanan ukuran 6 mm. Jantung "
    "tidak membesar.",
    "Chinese": "双肺纹理清晰，右肺上叶可见6mm结节。纵隔未见肿大淋巴结。",
    "Chinese after an English title": "CT chest: 右肺上叶结节, 双侧胸腔未见积液。",
    "Japanese": "右肺上葉に6mm大の結節を認める。胸水なし。",
    "Korean": "우상엽에 6mm 결절. 흉수 없음.",
    "Russian": "В верхней доле правого легкого узел 6 мм. Плеврального выпота нет.",
    "Arabic": "لا يوجد تضخم في الغدد اللمفاوية. عقدة في الفص العلوي الأيمن.",
    "Latin": "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.",
    "German below English headings": "Findings: Unauffällig. Impressions: Emphysem.",
    "no word": "6 / 4 - ?",
}
ENGLISH = (
    "Normal.",
    "WNL",
    "NAD",
    "Nil acute.",
    "Sternal osteomyelopathy.",
    "UNREMARKABLE CT OF THE CHEST.",
    "LUL 6 mm GGN, stable c/w prior. No LAD. s/p CABG. Ao calc. No PE/PTX.",
    "PICC tip at cavoatrial jxn; ETT 3 cm above carina. Bibasilar atx, sm b/l effs.",
    "3 mm RLL nod. Tr. eff. R>L. ?early ILD.",
    "Oedema with a hiatus hernia; haemorrhage in the oesophagus is not excluded.",
    "FINDINGS:\nLUNGS: Clear.\nHEART: Normal.\nIMPRESSION:\n1. [None]",
    "XXXX-year-old male with cough. ___ Small effusion.",
    "The liver contains two hypoattenuating lesions (image 174), volume 8.2 cc.",
)


@pytest.mark.parametrize("language", OTHER)
def test_another_language_is_refused(language: str) -> None:
    with pytest.raises(OtherLanguageError) as caught:
        check_language(["No nodule is seen.", OTHER[language], "", "Normal."])
    assert [number for number, _ in caught.value.facts] == [1]


@pytest.mark.parametrize("text", ENGLISH)
def test_short_and_telegraphic_english_is_read(text: str) -> None:
    check_language([text, ""])
    check_language([text.upper()])


def test_words_are_counted_as_a_reader_would() -> None:
    count = count_known(["No Pleural effusion, 6 mm.", "Keine Fraktur"])
    assert (count.known, count.words) == (4, 6)
    assert count_known([]).share == count_known(["", "12"]).share == 1.0


def test_the_rows_are_named_with_what_was_counted(tmp_path: Path) -> None:
    with pytest.raises(OtherLanguageError) as caught:
        check_language(["Normal.", OTHER["Arabic"], OTHER["French, short"]])
    message = str(caught.value.at(tmp_path, ["row 1", "row 2", "row 3"]))
    assert "row 1" not in message
    assert "row 3: 1 of 3 words are known" in message
    assert message.index("row 2: 0 of") < message.index("row 3")


@pytest.mark.parametrize("part", ["sentences", "reports"])
def test_no_english_of_other_styles_is_refused(part: str) -> None:
    check_language([entry["text"] for entry in read(part, "a")])


def test_no_sentence_of_the_phantoms_is_refused() -> None:
    check_language([text for wording in WORDINGS for text in (*wording.present, *wording.absent)])


def read_column(path: Path, *columns: str) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return ["\n".join(row[name] for name in columns) for row in csv.DictReader(file)]


def test_no_report_of_ct_rate_comes_near_the_limit(real_data: Path) -> None:
    """The check part of the labelled reports was not looked at when the words were written."""
    labelled = real_data / "reports" / "ct_rate_reports_labelled.csv"
    names = read_column(labelled, "AccessionNo")
    order = sorted(range(800), key=lambda n: hashlib.sha256(names[n].encode()).hexdigest())
    texts = read_column(labelled, "report_text")
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    sets = [[texts[n] for n in order[:200]], read_column(path, "Findings_EN", "Impressions_EN")]
    for found in sets:
        assert min(count_known([text]).share for text in found) >= 0.9
    check_language(read_column(path, "Impressions_EN"))


@pytest.mark.slow
def test_reports_are_counted_much_faster_than_they_are_labelled(real_data: Path) -> None:
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    texts = read_column(path, "Findings_EN", "Impressions_EN")
    count_known(["Normal."])  # reads the words
    assert len(texts) / cpu_seconds(lambda: count_known(texts)) >= 4000
