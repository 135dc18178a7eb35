# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import pytest
from data.miniatures import MINIATURES, draw, mark

from anomalyclip_hf.data.listing import scan
from anomalyclip_hf.data.words import parse_label


def found(scanned):
    below = scanned.root
    rows = [
        (
            row.split,
            row.category,
            row.defect_type,
            row.label,
            scanned.path_of(row),
            row.mask and row.mask.relative_to(below).as_posix(),
        )
        for row in scanned.rows
    ]
    return sorted(rows, key=str)


def expected(miniature):
    rows = [
        (row.split, row.category, None if row.label is None else row.defect_type, row.label, row.image, row.mask)
        for row in miniature.expected()
    ]
    return sorted(rows, key=str)


@pytest.mark.parametrize("miniature", MINIATURES.values(), ids=MINIATURES)
def test_every_layout_gives_exactly_its_rows(tmp_path, miniature):
    folder = miniature.build(tmp_path / "own")
    scanned = scan(miniature.dataset, folder)
    assert found(scanned) == expected(miniature)
    assert scanned.root == folder / miniature.root
    assert scanned.reader.name == miniature.reader
    assert len(scanned.problems) == len(miniature.problems), scanned.problems
    for problem, words in zip(scanned.problems, miniature.problems, strict=True):
        assert words in problem


@pytest.mark.parametrize("above", ["", "wrap", "wrap/again"])
def test_the_root_is_found_two_levels_down_and_no_deeper(tmp_path, above):
    miniature = MINIATURES["colondb-authors"]
    miniature.build(tmp_path / "own" / above)
    (tmp_path / "own" / "other" / "folder").mkdir(parents=True)
    if above.count("/"):
        with pytest.raises(FileNotFoundError, match="does not look like CVC-ColonDB"):
            scan("colondb", tmp_path / "own")
    else:
        assert found(scan("colondb", tmp_path / "own")) == expected(miniature)
    assert found(scan("colondb", tmp_path / "own" / above / miniature.root)) == expected(miniature)


def test_one_category_of_a_data_set_by_itself(tmp_path):
    folder = MINIATURES["mvtec-original"].build(tmp_path)
    scanned = scan("mvtec", folder / "mvtec_anomaly_detection" / "metal_nut")
    assert {row.category for row in scanned.rows} == {"metal_nut"}
    assert [scanned.path_of(row) for row in scanned.rows if row.label] == ["test/flip/000.png"]
    assert scanned.problems == []


@pytest.mark.parametrize("gone", ["yes", "no"])
def test_a_class_alone_is_no_layout(tmp_path, gone):
    folder = MINIATURES["br35h-authors"].build(tmp_path)
    for image in (folder / "br35" / gone).glob("*.jpg"):
        image.unlink()
    with pytest.raises(FileNotFoundError, match="does not look like Br35H"):
        scan("br35h", folder)


def test_rows_have_a_fixed_order_with_class_2_before_class_10(tmp_path):
    folder = MINIATURES["dagm-original"].build(tmp_path)
    scanned = scan("dagm", folder)
    assert [scanned.path_of(row) for row in scanned.rows if row.split == "test"] == [
        "Class1/Test/0576.PNG",
        "Class1/Test/0577.PNG",
        "Class2/Test/0577.PNG",
        "Class10/Test/0003.PNG",
    ]


WITH_META = {name: miniature for name, miniature in MINIATURES.items() if miniature.meta}


@pytest.mark.parametrize("miniature", WITH_META.values(), ids=WITH_META)
def test_the_authors_index_decides_where_there_is_one(tmp_path, miniature):
    folder = miniature.build(tmp_path)
    index = miniature.index(upper=miniature.dataset == "dagm")
    left_out = miniature.expected()[0]
    categories = index["Train" if left_out.split == "train" and miniature.dataset == "dagm" else left_out.split]
    categories[left_out.category].pop(0)
    miniature.write_index(folder, index)
    scanned = scan(miniature.dataset, folder)
    assert scanned.reader.name == "authors' copy with meta.json"
    rows = [row for row in expected(miniature) if row[4] != left_out.image]
    assert found(scanned) == rows


def test_the_authors_index_may_call_things_in_its_own_way(tmp_path):
    for number, name in enumerate(("a.png", "b.png", "c.png"), start=1):
        draw(tmp_path / name, number)
    mark(tmp_path / "b_mask.png", 2)
    entries = [
        {"img_path": "a.png", "mask_path": "a_mask.png", "cls_name": "", "specie_name": "fine", "anomaly": 0},
        {"img_path": ".\\b.png", "mask_path": "b_mask.png", "cls_name": "", "specie_name": "", "anomaly": 1},
        {"img_path": "c.png", "cls_name": "", "anomaly": True},
    ]
    (tmp_path / "meta.json").write_text(json.dumps({"test": {"electrical commutators": entries}}))
    scanned = scan("sdd", tmp_path)
    assert found(scanned) == [
        ("test", "electrical_commutators", "anomaly", 1, "b.png", "b_mask.png"),
        ("test", "electrical_commutators", "anomaly", 1, "c.png", None),
        ("test", "electrical_commutators", "good", 0, "a.png", None),
    ]


@pytest.mark.parametrize("key", ["img_path", "mask_path"])
@pytest.mark.parametrize("path", ["/remote-home/iot_zhouqihang/data/br35/y0.jpg", "../y0.jpg", "C:\\data\\y0.jpg"])
def test_paths_of_the_authors_own_machine_are_refused(tmp_path, key, path):
    miniature = MINIATURES["br35h-authors"]
    folder = miniature.build(tmp_path)
    index = miniature.index()
    index["test"]["brain"][1][key] = path
    miniature.write_index(folder, index)
    with pytest.raises(ValueError, match=r"meta\.json names .*y0\.jpg', which leads out of .*br35"):
        scan("br35h", folder)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"test": []}',
        '{"test": {"brain": [{"img_path": "no/no0.jpg"}]}}',
        '{"test": {"brain": [{"img_path": "no/no0.jpg", "anomaly": "odd"}]}}',
        '{"test": {"brain": [{"img_path": "no/no0.jpg", "anomaly": 2}]}}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_index_is_named(tmp_path, text):
    folder = MINIATURES["br35h-authors"].build(tmp_path)
    (folder / "br35" / "meta.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"br35.meta\.json"):
        scan("br35h", folder)


@pytest.mark.parametrize(
    ("dataset", "name", "line"),
    [
        ("visa-original", "split_csv/1cls.csv", "candle,test,anomaly,../../secret.png,"),
        ("visa-original", "split_csv/1cls.csv", "candle,test,anomaly,candle/a.png,/secret.png"),
        ("headct-original", "labels.csv", "../../../secret,1"),
    ],
)
def test_paths_of_an_original_table_stay_inside(tmp_path, dataset, name, line):
    miniature = MINIATURES[dataset]
    folder = miniature.build(tmp_path)
    with (folder / miniature.root / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"secret.*leads out of"):
        scan(miniature.dataset, folder)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


ROWS = [
    ("test", "own", "anomaly", 1, "b ü.png", "m/b.png"),
    ("test", "own", "good", 0, "a.png", None),
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "image,label,mask\na.png,0,\nb ü.png,1,m/b.png\n"),
        ("list.csv", "image,label,mask\r\na.png,0,\r\nb ü.png,1,m/b.png\r\n"),
        ("list.csv", "image;label;mask\na.png;Normal;\nb ü.png;ANOMALOUS;m/b.png\n"),
        ("list.csv", "image\tlabel\tmask\na.png\tok\t\nb ü.png\tng\tm/b.png\n"),
        ("list.csv", "\ufeffimage,label,mask\na.png,good,nan\nb ü.png,bad,m/b.png\n"),
        ("list.csv", " image , label , mask \n a.png , 0.0 , None \n\n b ü.png , 1.0 , m/b.png \n"),
        ("list.csv", "label,mask,more,image\nfalse,unused.png,,a.png\ntrue,m/b.png,,b ü.png\n"),
        ("list.csv", '"image","label","mask"\n"a.png","no",""\n"b ü.png","yes","m\\b.png"\n'),
        ("list.csv", '"image", "label", "mask"\n"a.png", "no", ""\n"b ü.png", "yes", "m/b.png"\n'),
        ("list.csv", "image,label,mask\n./a.png,negative\nb ü.png,positive,.\\m\\b.png\n"),
        ("list.csv", "sep=;\nimage;label;mask\na.png;0;\nb ü.png;1;m/b.png\n"),
        ("list.csv", "image,label,mask,\na.png,0,,\nb ü.png,1,m/b.png,\n"),
        ("list.csv", "image,label,mask\na.png,0,,,\nb ü.png,1,m/b.png,\n"),
        ("list.csv", "image,label,mask\na.png,defect-free,\nb ü.png,Non OK,m/b.png\n".replace("Non OK", "Not OK")),
        ("list.jsonl", '{"image": "a.png", "label": 0}\n\n{"image": "b ü.png", "label": 1, "mask": "m/b.png"}\n'),
        ("list.JSONL", '\ufeff{"image": "a.png", "label": false}\n{"image":"b ü.png","label":true,"mask":"m/b.png"}'),
    ],
)
def test_tables_of_ones_own(tmp_path, name, text):
    (tmp_path / "own").mkdir()
    file = write(tmp_path / "own" / name, text)
    scanned = scan(name.rpartition(".")[2].lower(), file)
    assert found(scanned) == ROWS
    assert scanned.root == file.parent


def test_line_separators_within_json_strings_do_not_end_the_line(tmp_path):
    lines = ('{"image": "a\u2028b\x85.png", "label": 0}', '{"image": "c.png", "label": 1}')
    file = write(tmp_path / "list.jsonl", "\r\n".join(lines))
    assert [row.image.name for row in scan("jsonl", file).rows] == ["a\u2028b\x85.png", "c.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_detected(tmp_path, encoding):
    (tmp_path / "own").mkdir()
    file = write(tmp_path / "own" / "list.csv", "image,label,mask\na.png,0,\nb ü.png,1,m/b.png\n", encoding)
    assert found(scan("csv", file)) == ROWS


def test_other_encodings_are_named(tmp_path):
    (tmp_path / "own").mkdir()
    file = write(tmp_path / "own" / "list.csv", "image,label,mask\na.png,0,\nb ü.png,1,m/b.png\n", "mac-roman")
    assert found(scan("csv", file, encoding="mac-roman")) == ROWS
    with pytest.raises(ValueError, match="--encoding"):
        scan("csv", file, encoding="ascii")
    with pytest.raises(ValueError, match="encoding="):
        scan("folder", tmp_path, encoding="ascii")


def test_absolute_paths_of_a_table(tmp_path):
    write(tmp_path / "list.csv", f"image,label\n{tmp_path}/a.png,0\n")
    assert found(scan("csv", tmp_path))[0][4] == "a.png"
    (tmp_path / "below").mkdir()
    write(tmp_path / "below" / "list.csv", f"image,label\n{tmp_path}/a.png,0\n../b.png,1\n")
    with pytest.raises(ValueError, match="--allow-outside"):
        scan("csv", tmp_path / "below")
    rows = scan("csv", tmp_path / "below", allow_outside=True).rows
    assert [row.image.resolve() for row in rows] == [tmp_path / "a.png", tmp_path / "b.png"]


def test_columns_of_a_table_may_have_any_name(tmp_path):
    text = "file;is bad;part;kind;set;gt\na.png;0;bolt;;train;\nb.png;1;nut;rust;test;b_gt.png\nc.png;;nut;;;\n"
    write(tmp_path / "list.csv", text)
    columns = {"image": "file", "label": "is bad", "category": "part", "defect_type": "kind", "split": "set"}
    assert found(scan("csv", tmp_path, columns | {"mask": "gt"})) == [
        ("test", "nut", "rust", 1, "b.png", "b_gt.png"),
        ("test", "nut", None, None, "c.png", None),
        ("train", "bolt", "good", 0, "a.png", None),
    ]


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("image,label\na.png,odd\n", {}, r"list\.csv, record 1: label 'odd' is unknown; expected one of .*anomalous"),
        ("image,label\na.png,2\n", {}, "label '2' is unknown"),
        ("image,label\na.png,0\n ,1\n", {}, "record 2, names no image"),
        ("file,label\na.png,0\n", {}, r"columns 'file', 'label'; expected .*image, label\. Map them with columns="),
        ("image,kind\na.png,0\n", {}, "columns 'image', 'kind'"),
        ("image,label\na.png,0\n", {"label": "kind"}, r"expected .*image, kind"),
        ("image,label,gt\na.png,1,b.png\n", {"mask": "gtt"}, "no column 'gtt'"),
        ("image,label,gt\na.png,1,b.png\n", {"gt": "mask"}, "columns= names 'gt'"),
        ("image,label\na.png,0,more\n", {}, "does not fit its columns"),
        ("image,label\n../a.png,0\n", {}, r"'\.\./a\.png', which leads out of"),
        ("image,label\nx/../../a.png,0\n", {}, "leads out of"),
        ("image,label\n/a.png,0\n", {}, "leads out of"),
        ("image,label\nC:\\a.png,0\n", {}, "leads out of"),
        ("image,label\n..\\a.png,0\n", {}, "leads out of"),
        ("image,label\n\\\\server\\share\\a.png,0\n", {}, "leads out of"),
        ("image,label,mask\na.png,1,/etc/m.png\n", {}, "leads out of"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, text, columns, words):
    write(tmp_path / "list.csv", text)
    with pytest.raises(ValueError, match=words):
        scan("csv", tmp_path, columns)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("list.jsonl", b'{"image": "a.png"\n', r"list\.jsonl cannot be read as jsonl"),
        ("list.jsonl", b'["a.png", 0]\n', "does not fit its columns"),
        ("list.csv", b"image,label\n\x81.png,0\n", r"list\.csv cannot be read as csv .*--encoding"),
    ],
)
def test_damaged_tables_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        scan(name.split(".")[1], tmp_path)


@pytest.mark.parametrize(
    ("word", "label"),
    [("0", 0), ("Good", 0), ("OK", 0), ("False", 0), ("1", 1), ("1.0", 1), ("NG", 1), ("Anomaly", 1), (None, None)],
)
def test_words_for_labels(word, label):
    assert parse_label(word, "here") == label


@pytest.mark.parametrize("word", ["", "2", "-1", "unknown", "goods"])
def test_other_words_are_no_labels(word):
    with pytest.raises(ValueError, match=f"here: label '{word}' is unknown"):
        parse_label(word, "here")
