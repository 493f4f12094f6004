from __future__ import annotations

from pathlib import Path

import pytest

from uvlm.errors import DataError
from uvlm.text.claims import CaseClaims, load_claims, write_claims


def test_claims_are_read_as_they_were_written(tmp_path: Path) -> None:
    claims = [CaseClaims("a", ("Emphysema",), (), ()), CaseClaims("b", (), ("Emphysema",), None)]
    write_claims(tmp_path / "claims.json", "rules", claims)
    assert load_claims(tmp_path / "claims.json") == ("rules", {c.case_id: c for c in claims})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"labeller": "rules", "cases": [{"case_id": "a"}]}', '{"cases": 1}']
)
def test_what_are_no_claims_is_refused_with_the_command_that_makes_them(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "claims.json").write_text(text)
    with pytest.raises(DataError, match=r"claims\.json.*dvc repro evaluate"):
        load_claims(tmp_path / "claims.json")
    with pytest.raises(DataError, match="dvc repro evaluate"):
        load_claims(tmp_path / "none.json")
