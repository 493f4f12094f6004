"""The page as a file: everything escaped, nothing fetched, nothing left unsaid."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tests.pages.evidence.conftest import AFFINE, LIVER, NAMES, NODULE, Pages, draft
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.pages.evidence.map_trust import MapTrust, Removal
from uvlm.pages.evidence.page import STATEMENT, Near
from uvlm.text.draft import Claim, Sentence, Structure, Unlike, UnlikeTraining

ATOMS = (
    "<script>hacked=1</script>", "</script>", "<!--", "-->", "]]>", "<img src=x onerror=hacked=1>",
    "&lt;", "&#60;script&#62;", "\"", "'", "`", "${hacked=1}", "{{ 7*7 }}", "{% raw %}", "</style>",
    "<svg/onload=hacked=1>", "javascript:hacked=1", "\u2028", "\u2029", "\x00", "\r\n", "\\u003c",
    "<a href='https://example.org'>", "</button></li>", "<meta http-equiv=refresh content=0>", "ä",
    "\U0001f9ea", "‮", "<base href=//example.org>", "on\u212alick=", "data:text/html,<b>", "\\",
)  # fmt: skip


def hostile(number: int) -> str:
    draws = random.Random(number)
    return "".join(draws.choice(ATOMS) for _ in range(draws.randint(1, 4))) + f"#{number}"


class Parsed(HTMLParser):
    """The elements of a page, their attributes and texts, as a browser splits them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def data(self) -> Any:
        (found,) = (text for attributes, text in self.scripts if attributes.get("id") == "data")
        return json.loads(found)


def filled(text: Any) -> dict[str, Any]:
    """A page whose every text is made by `text` from a number: a thousand of them and more."""
    numbers = iter(range(10_000))

    def said() -> str:
        return str(text(next(numbers)))

    sentences = tuple(
        Sentence(
            text=said(),
            part="findings" if number % 2 else "impression",
            claims=(Claim(abnormality=said(), present=True, side=("left",), contradiction=said()),),
            unsupported_by_one_ct=said(),
        )
        for number in range(250)
    )
    unlike = Unlike(
        kind=said(), what=said(), unit=said(), value=1.0, low=0.0, high=0.5, text=said()
    )
    written = draft(
        case_id=said(),
        disclaimer=said(),
        notes=(said(), said()),
        withheld=said(),
        unlike_training=UnlikeTraining(checked=True, found=(unlike,)),
        sentences=sentences,
        probabilities={said(): 0.5 for _ in range(10)},
        structures=(Structure(class_id=NODULE, name=said(), volume_ml=1.0),),
    )
    near = [Near(said(), said(), 0.5) for _ in range(10)]
    assert next(numbers) > 1000
    return {"written": written, "near": near}


def test_of_a_thousand_hostile_strings_none_is_markup(page: Pages) -> None:
    attacked = Parsed(page(**filled(hostile)).html())
    harmless = Parsed(page(**filled(lambda number: f"word {number}")).html())
    assert attacked.elements == harmless.elements
    names = [[(tag, name) for tag, name, _ in p.attributes] for p in (attacked, harmless)]
    assert names[0] == names[1]
    written = filled(hostile)["written"]
    text = attacked.text.replace("\r\n", "\n")
    for sentence in written.sentences:
        assert sentence.text.replace("\r\n", "\n").replace("\x00", "") in text.replace("\x00", "")
    named = [claim["name"] for row in attacked.data()["sentences"] for claim in row]
    assert named == [claim.abnormality for s in written.sentences for claim in s.claims]


def test_the_policy_allows_only_the_scripts_and_the_style_of_the_page(page: Pages) -> None:
    parsed = Parsed(page().html())
    (policy,) = (
        value for tag, name, value in parsed.attributes
        if tag == "meta" and name == "content" and "default-src" in value
    )  # fmt: skip
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r"unsafe|https?:|connect-src|\*", policy)
    running = [text for attributes, text in parsed.scripts if not attributes.get("type")]
    assert len(running) == 2
    for text in [*running, *parsed.styles]:
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        assert f"'sha256-{digest}'" in policy
    assert len(re.findall("'sha256-", policy)) == 3


def test_nothing_in_the_page_names_another_place(page: Pages) -> None:
    parsed = Parsed(page().html())
    assert not [a for a in parsed.attributes if a[1] in ("src", "href", "action", "srcset")]
    assert not [a for a in parsed.attributes if a[1].startswith("on") or a[1] == "style"]
    assert not {"link", "iframe", "object", "base", "form", "img"} & parsed.elements.keys()


def test_every_sentence_says_what_is_known_of_it(page: Pages) -> None:
    html = page().html()
    states = re.findall(r'<li class="(\w+)">', html)
    assert states == ["present", "contradicted", "absent", "unsupported", "plain"]
    text = " ".join(Parsed(html).text.split())
    assert "Contradicted. the classifier gives 0.04, below its threshold of 0.50" in text
    assert "Not supported by one CT: comparison with an earlier examination." in text
    assert "says: present, left, upper lobe, small" in text
    assert "nodule or mass: 1.2 ml" in text
    assert re.search(r"\d+ % of the map lies in the mask, which fills \d+\.\d % of its grid", text)
    assert text.count(STATEMENT) == 2


def test_a_sentence_points_to_its_mask_and_a_denial_to_nothing(page: Pages) -> None:
    found = Parsed(page().html()).data()["sentences"]
    assert found[0][0]["focus"] == [-10.0, 0.0, 148.0]
    assert found[0][0]["classes"] == [NODULE]
    assert found[0][0]["maps"] == {"contribution": "map-0", "occlusion": "map-1"}
    assert found[1][0]["focus"] is None  # neither mask nor map
    assert found[2][0]["focus"] is None
    classes = {row["id"]: row["lesion"] for row in Parsed(page().html()).data()["classes"]}
    assert classes == {NODULE: True, LIVER: False}


def test_a_withheld_report_shows_why_and_no_sentence(page: Pages) -> None:
    unlike = Unlike(
        kind="liver", what="liver", unit="ml", value=1, low=2, high=3, text="the liver has 1 ml"
    )
    written = draft(
        report=None, findings=None, impression=None, sentences=(), probabilities={},
        withheld="1 of 9 checks found this CT unlike the training cases",
        unlike_training=UnlikeTraining(checked=True, found=(unlike,)),
    )  # fmt: skip
    html = page(written, maps={}).html()
    text = " ".join(Parsed(html).text.split())
    assert "Withheld: 1 of 9 checks found this CT unlike the training cases" in text
    assert "the liver has 1 ml" in text
    assert 'class="sentence"' not in html
    assert 'id="volume-masks"' in html  # what the masks show stays


def test_maps_without_a_test_say_so_where_they_are_chosen(page: Pages) -> None:
    passing, failing = Removal(0.9, 0.01, 100), Removal(0.1, 0.1, 100)
    trust = MapTrust(passing, {"contribution": failing, "occlusion": passing})
    assert Parsed(page().html()).text.count("(no evidence)") == 2
    tested = Parsed(page(trust=trust).html()).text
    assert "Attention (no evidence)" in tested
    assert "Occlusion (no evidence)" not in tested


def test_a_model_without_masks_classifier_and_maps_still_has_a_page(page: Pages) -> None:
    bare = tuple(Sentence(text=s.text, part=s.part) for s in draft().sentences)
    written = draft(sentences=bare, probabilities={}, thresholds={}, structures=())
    parsed = Parsed(page(written, label_map=None, maps={}).html())
    assert parsed.data()["classes"] == []
    assert "Nodule of small size in the left upper lobe." in parsed.text


def large_page(page: Pages) -> str:
    """The page of a noisy CT of 512 x 512 x 300 with a full label map."""
    shape, draws = (300, 512, 512), np.random.default_rng(0)
    hu = draws.normal(0, 40, shape).astype(np.int16)
    hu += (np.indices(shape, sparse=True)[1] % 64 * 20).astype(np.int16) - 900
    ids = (np.indices(shape, sparse=True)[0] // 8 + hu // 400 % 3).astype(np.uint8) % len(NAMES)
    affine = AFFINE @ np.diag([0.25, 0.4, 0.4, 1])
    return page(volume=Volume(hu, affine), label_map=LabelMap(ids, affine)).html()


@pytest.mark.slow
def test_a_large_noisy_ct_makes_a_page_of_at_most_12_mb(page: Pages) -> None:
    assert len(large_page(page).encode("utf-8")) <= 12_000_000
