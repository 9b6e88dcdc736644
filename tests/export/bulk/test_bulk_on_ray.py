"""The same lists on Ray, and a job that goes on there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_rows import lists

from export.bulk.__main__ import rerank
from export.bulk.job import Done

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


def test_ray_makes_the_same_lists(bundle: Path, tmp_path: Path) -> None:
    rows = [
        {
            "request_id": f"r{n}",
            "items": [f"i{(n * 7 + k) % 200}" for k in range(20)],
            "top_n": 5 * (n % 40 > 0),
        }
        for n in range(400)
    ]
    source = tmp_path / "requests.parquet"
    pq.write_table(pa.Table.from_pylist(rows), source)
    at = 1.7e9
    assert rerank(bundle, str(source), tmp_path / "here", part_rows=60, at=at) == Done(390, 10)
    assert rerank(bundle, str(source), tmp_path / "ray", part_rows=60, at=at, ray="local") == Done(390, 10)
    assert lists(tmp_path / "ray") == lists(tmp_path / "here")
    assert lists(tmp_path / "ray" / "refused") == lists(tmp_path / "here" / "refused")
    (tmp_path / "ray" / "part-000003.parquet").unlink()
    kept = (tmp_path / "ray" / "part-000000.parquet").stat().st_mtime_ns
    assert rerank(bundle, str(source), tmp_path / "ray", part_rows=60, ray="local") == Done(390, 10)
    assert (tmp_path / "ray" / "part-000000.parquet").stat().st_mtime_ns == kept
    assert lists(tmp_path / "ray") == lists(tmp_path / "here")
