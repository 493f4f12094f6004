from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from uvlm.pages.highlight import colour_of, cut_at_spans, highlight
from uvlm.text.abnormalities import ABNORMALITIES

spans_of_twenty = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from(ABNORMALITIES)).map(
        lambda span: (min(span[:2]), max(span[:2]), span[2])
    ),
    max_size=6,
)


def luminance(colour: str) -> float:
    """WCAG relative luminance of #rrggbb."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_abnormality_has_a_colour_of_its_own_that_is_readable_on_white() -> None:
    colours = [colour_of(name) for name in ABNORMALITIES]
    for colour in colours:
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5
    for one, other in combinations(colours, 2):
        steps = [abs(int(one[i : i + 2], 16) - int(other[i : i + 2], 16)) for i in (1, 3, 5)]
        assert sum(steps) >= 36, (one, other)


@given(st.text(min_size=20, max_size=20), spans_of_twenty)
def test_pieces_joined_are_the_text(text: str, spans: list[tuple[int, int, str]]) -> None:
    assert "".join(piece.text for piece in cut_at_spans(text, spans)) == text


def test_an_abnormal_phrase_carries_its_colour_and_normal_text_none() -> None:
    html = highlight(cut_at_spans("Emphysema. No nodule.", [(0, 9, "Emphysema")]))
    colour = colour_of("Emphysema")
    assert html == (
        f'<mark class="abnormal" style="--hue:{colour}" title="Emphysema">Emphysema</mark>'
        ". No nodule."
    )


def test_invented_findings_are_marked_as_doubtful() -> None:
    pieces = cut_at_spans("Nodule", [(0, 6, "Lung nodule")])
    assert 'class="abnormal doubtful"' in highlight(pieces, ["Lung nodule"])


def test_a_phrase_that_is_named_without_a_claim_stays_black() -> None:
    text = "No nodule. Emphysema"
    pieces = cut_at_spans(text, [(11, 20, "Emphysema")], [(3, 9, "Lung nodule")])
    html = highlight(pieces, ["Lung nodule"])
    assert '<span class="named" title="Lung nodule: named, not claimed">nodule</span>' in html
    assert html.count("<mark") == 1


def test_of_two_phrases_that_meet_each_keeps_what_the_first_does_not_take() -> None:
    pieces = list(cut_at_spans("aorta and coronary", [(0, 5, "Emphysema"), (0, 18, "Atelectasis")]))
    assert [(piece.text, piece.abnormality) for piece in pieces] == [
        ("aorta", "Emphysema"),
        (" and coronary", "Atelectasis"),
    ]


def test_markup_in_generated_text_is_escaped_inside_and_outside_phrases() -> None:
    html = highlight(cut_at_spans("<b>x</b><script>", [(0, 8, '"><script>')]))
    assert "<script" not in html
    assert "<b>" not in html
