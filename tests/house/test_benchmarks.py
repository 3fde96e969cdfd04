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
    alone = {suite: {"CPU": found["CPU"]} for suite, found in RESULTS.items()}
    both = copy.deepcopy(alone)
    for found in both.values():
        found["GPU"] = copy.deepcopy(found["CPU"])
    row = both["core"]["GPU"]["tables"][0]["rows"][0]
    row[1], row[3] = "9.87 ns", {"median": 0.5, "low": 0.4, "high": 0.6}
    page = benchmarks.page(both)
    assert "| what | CPU: jaxsched | GPU: jaxsched | the other |" in page
    assert "9.87 ns" in page and "0.5 [0.4, 0.6] **missed**" in page
    assert page.partition("## ")[0] == benchmarks.page(alone).partition("## ")[0]


def test_a_row_that_one_device_lacks_does_not_double_a_column():
    cpu = benchmarks.Table(
        "Speed", "", ("what", "time", "goal"), (("a", "1 s", ""), ("b", "2 s", "3"))
    )
    gpu = benchmarks.Table("Speed", "", ("what", "time", "goal"), (("a", "4 s", ""),))
    both = benchmarks.side_by_side({"CPU": cpu, "GPU": gpu})
    assert both.columns == ("what", "CPU: time", "GPU: time", "goal")
    assert both.rows == (("a", "1 s", "4 s", ""), ("b", "2 s", "", "3"))


def test_tables_of_other_columns_are_not_mixed():
    one = benchmarks.Table("Speed", "", ("what", "time"), (("a", "1 s"),))
    two = benchmarks.Table("Speed", "", ("what", "seconds"), (("a", "1"),))
    with pytest.raises(ValueError, match="'Speed' have different columns"):
        benchmarks.side_by_side({"CPU": one, "GPU": two})
