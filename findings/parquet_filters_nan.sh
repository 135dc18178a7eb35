#!/usr/bin/env bash
# DuckDB 2.0.1 and the datasets of PyArrow 26.0.1 overlook NaN when they filter a Parquet file: its statistics leave NaN
# out, and both take them for all that is there. The same filters on a table in memory find it. DuckDB does so since June
# 2025 (https://github.com/duckdb/duckdb/pull/17883) unless can_have_nan is set; reported as
# https://github.com/duckdb/duckdb/issues/25521, the like of PyArrow as https://github.com/apache/arrow/issues/34162.
#
# Seen: "which scores are NaN" answers "none", and "which are not below the threshold" leaves NaN out or not, depending on
# the other scores of the row group. This package writes no NaN: scores that are not finite are refused
# (scoring/engine.py). Whoever looks for NaN in other Parquet files has to read the column first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1 pyarrow==26.0.1 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/scores.parquet" <<'PY'
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

file = sys.argv[1]
scores = pa.table({"id": np.arange(4), "score": np.array([0.2, np.nan, 0.2, 0.2])})
pq.write_table(scores, file)


def with_duckdb(source, condition):
    return [row[0] for row in duckdb.sql(f"SELECT id FROM {source} WHERE {condition} ORDER BY id").fetchall()]


def with_pyarrow(source, condition):
    return source.filter(condition).to_table()["id"].to_pylist()


print("duckdb", duckdb.__version__, "pyarrow", pa.__version__)
print("expected: a filter finds the same rows in the file as in memory, here row 1 with NaN")
pairs = []
for condition in ("isnan(score)", "NOT score < 0.5"):
    pairs.append((with_duckdb(f"'{file}'", condition), with_duckdb("scores", condition)))
    print(f"DuckDB, {condition}: file {pairs[-1][0]}, memory {pairs[-1][1]}")
stored, in_memory = pa.dataset.dataset(file), pa.dataset.dataset(scores)
for condition in (pc.is_nan(pc.field("score")), ~(pc.field("score") < 0.5)):
    pairs.append((with_pyarrow(stored, condition), with_pyarrow(in_memory, condition)))
    print(f"PyArrow, {condition}: file {pairs[-1][0]}, memory {pairs[-1][1]}")
print("DuckDB, can_have_nan:", with_duckdb(f"read_parquet('{file}', can_have_nan = true)", "isnan(score)"))
if pairs != [([], [1])] * 4:
    sys.exit("the behaviour has changed")
PY
