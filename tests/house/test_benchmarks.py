"""The page of benchmarks is what its results say, on one device and on several."""

import copy
import json

import pytest
from scripts import BENCHMARKS, ROOT, benchmark

benchmarks = benchmark("all")
RESULTS = json.loads((BENCHMARKS / "results.json").read_text())


def test_the_page_is_made_of_the_results():
    assert (ROOT / "docs" / "benchmarks.md").read_text() == benchmarks.page(RESULTS)


def test_devices_stand_side_by_side():
    both = copy.deepcopy(RESULTS)
    for found in both.values():
        found["GPU"] = copy.deepcopy(found["CPU"])
    row = both["core"]["GPU"]["tables"][0]["rows"][0]
    row[1], row[3] = "9.87 ns", {"median": 0.5, "low": 0.4, "high": 0.6}
    page = benchmarks.page(both)
    assert "| what | CPU: jaxsched | GPU: jaxsched | the other |" in page
    assert "9.87 ns" in page and "0.5 [0.4, 0.6] **missed**" in page
    head = benchmarks.page(RESULTS).partition("## ")[0]
    assert page.partition("## ")[0] == head.replace(head[head.index("No GPU has") :], "")


def test_tables_of_other_columns_are_not_mixed():
    one = benchmarks.Table("Speed", "", ("what", "time"), (("a", "1 s"),))
    two = benchmarks.Table("Speed", "", ("what", "seconds"), (("a", "1"),))
    with pytest.raises(ValueError, match="'Speed' have different columns"):
        benchmarks.side_by_side({"CPU": one, "GPU": two})
