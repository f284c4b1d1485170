"Tables as people have them: what `load` makes of each, and what it says"
import csv
import io
import warnings

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from synaug.data.inspection import inspect
from synaug.data.sources import load
from synaug.errors import LabelError, LeakError, SourceError

RNG = np.random.default_rng(0)
CLASSES = 'benign', 'malignant'


def pictures(folder, names, size=8):
    "Write images of noise; their names"
    for name in names:
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder/name)
    return names


def table(file, rows, sep=',', encoding='utf-8', end='\n'):
    "Write a table whose rows are given as dicts"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, 'w', newline='', encoding=encoding) as f:
        out = csv.DictWriter(f, list(rows[0]), delimiter=sep, lineterminator=end)
        out.writeheader()
        out.writerows(rows)
    return file


def told(source, **options):
    "(the data set, all notes as one text)"
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter('always')
        d = load(source, **options)
    return d, '\n'.join(str(w.message) for w in log)


def counts(d): return sum(s.counts() for s in d.splits().values() if s.labels is not None).to_dict()
def groups(d): return set().union(*(set(s.groups) for s in d.splits().values() if s.groups is not None))
def sizes(d): return {n: len(s) for n, s in d.splits().items()}


@pytest.fixture
def thirty(tmp_path):
    "Thirty images, and the rows of a plain manifest of them"
    names = pictures(tmp_path, [f'images/{i:03}.png' for i in range(30)])
    return tmp_path, [dict(path=name, label=CLASSES[i % 2]) for i, name in enumerate(names)]


# A table that some program wrote

@pytest.mark.parametrize('how, says', [
    (dict(sep=';'), 'separated by ;'), (dict(sep='\t'), 'separated by tabs'), (dict(sep='|'), 'separated by |'),
    (dict(encoding='utf-8-sig'), ''), (dict(encoding='utf-16'), 'utf-16'), (dict(encoding='utf-16-le'), 'utf-16-le'),
    (dict(encoding='latin-1'), 'windows-1252'), (dict(sep=';', encoding='cp1252', end='\r\n'), 'separated by ;')])
def test_separators_and_encodings(thirty, how, says):
    folder, rows = thirty
    rows = [row | dict(label={'benign': 'gut', 'malignant': 'bösartig'}[row['label']]) for row in rows]
    d, notes = told(table(folder/'labels.csv', rows, **how))
    assert counts(d) == dict(bösartig=15, gut=15) and says in notes


@pytest.mark.parametrize('change', [
    lambda t: t.replace('path,label', 'Path , LABEL'),
    lambda t: '\n'.join(f'{i},{line}' for i, line in zip(['', *range(99)], t.splitlines())),
    lambda t: '\n'.join(f'{i},{line}' for i, line in zip(['Unnamed: 0', *range(99)], t.splitlines())),
    lambda t: t.replace('\n', ',,\n'),
    lambda t: t.replace('\n', '\n\n'),
    lambda t: t.replace('images/', 'images\\'),
    lambda t: t.replace('images/', './images/'),
    lambda t: t.replace('images/', 'IMAGES/').replace('.png', '.PNG'),
    lambda t: t.replace('images/', '/home/someone/study/images/'),
    lambda t: t.replace('images/', r'C:\Users\someone\images' + '\\'),
    lambda t: t.replace('images/', ''),
    lambda t: t.replace('images/', '').replace('.png', ''),
    lambda t: t.replace('images/', '').replace('.png', '.dcm'),
    lambda t: t.replace('path', 'file_name'),
    lambda t: t.replace('path', 'Image Index').replace('label', 'Finding Labels'),
    lambda t: t.replace('path', 'bild').replace('label', 'befund')])
def test_ways_to_write_one_table(thirty, change):
    folder, rows = thirty
    file = table(folder/'labels.csv', rows)
    plain = load(file).fingerprint()
    file.write_text(change(file.read_text()))
    assert told(file)[0].fingerprint() == plain


def test_paths_from_where_the_command_is_run(tmp_path):
    pictures(tmp_path/'data'/'images', [f'{i}.png' for i in range(20)])
    rows = [dict(path=f'data/images/{i}.png', label=CLASSES[i % 2]) for i in range(20)]
    d, notes = told(table(tmp_path/'data'/'labels.csv', rows))
    assert counts(d) == dict(benign=10, malignant=10) and 'data/images/0.png is ' in notes
    table(tmp_path/'data'/'labels.csv', [*rows, dict(path='data/images/20.png', label='benign')])
    with pytest.raises(SourceError, match='line 22: there is no file .* folder of the table'):
        load(tmp_path/'data'/'labels.csv')


@pytest.mark.parametrize('change, error, says', [
    (lambda t: t.replace('path,label\n', ''), SourceError, 'the first line names an image'),
    (lambda t: t.replace('images/003.png,', 'images/003.png,"'), SourceError, 'not a readable CSV'),
    (lambda t: t.replace('images/003.png,', 'images/003.png,a,'), SourceError, 'line 5: 3 values for 2 columns'),
    (lambda t: t.replace('003', '399'), SourceError, 'line 5: there is no file'),
    (lambda t: t.replace('path,label', 'path,Label').replace('\n', ',x\n').replace('Label,x', 'Label,label'),
     SourceError, 'two columns are called label'),
    (lambda t: t.replace('label', 'age').replace('path,age', 'path,age,sex').replace('nign', 'nign,f')
     .replace('ant', 'ant,f'), SourceError, 'no column is called label'),
    (lambda t: '', SourceError, 'empty'),
    (lambda t: 'path,label\n', SourceError, 'lists no images')])
def test_tables_that_cannot_be_read(thirty, change, error, says):
    folder, rows = thirty
    file = table(folder/'labels.csv', rows)
    file.write_text(change(file.read_text()))
    with pytest.raises(error, match=says) as e: load(file)
    assert str(file) in str(e.value) and '\n' not in str(e.value)


def test_path_and_label_decide(thirty):
    folder, rows = thirty
    rows = [dict(id=i, target=i % 2, dx='other') | row for i, row in enumerate(rows)]
    d, notes = told(table(folder/'train.csv', rows))
    assert counts(d) == dict(benign=15, malignant=15) and 'label = label, not used: id, target, dx' in notes


# Tables of the best-known sets

def ham(folder):
    names = pictures(folder, [f'HAM10000_images_part_{1 + i // 20}/ISIC_{i:07}.jpg' for i in range(40)])
    rows = [dict(lesion_id=f'HAM_{i // 2}', image_id=n[-16:-4], dx=('nv', 'mel')[i % 2], dx_type='histo', age=50)
            for i, n in enumerate(names)]
    return table(folder/'HAM10000_metadata.csv', rows)


def isic(folder):
    pictures(folder, [f'ISIC_Training_Input/ISIC_{i}.jpg' for i in range(30)])
    rows = [dict(image=f'ISIC_{i}', MEL=1.0 - i % 2, NV=float(i % 2), UNK=0.0, score_weight=1.0) for i in range(30)]
    return table(folder/'ISIC_2019_Training_GroundTruth.csv', rows)


def pcam(folder):
    pictures(folder, [f'train/{i:040x}.tif' for i in range(30)] + [f'test/f{i:039x}.tif' for i in range(5)])
    table(folder/'sample_submission.csv', [dict(id=f'f{i:039x}', label=0) for i in range(5)])
    return table(folder/'train_labels.csv', [dict(id=f'{i:040x}', label=i % 2) for i in range(30)])


def aptos(folder):
    pictures(folder, [f'train_images/{i:012x}.png' for i in range(30)] + ['test_images/ff.png'])
    table(folder/'test.csv', [dict(id_code='ff')])
    return table(folder/'train.csv', [dict(id_code=f'{i:012x}', diagnosis=i % 2) for i in range(30)])


def nih(folder):
    pictures(folder, [f'images_00{1 + i // 15}/images/{i:08}_000.png' for i in range(30)])
    found = 'Mass', 'Mass|Edema', 'Edema'
    rows = [{'Image Index': f'{i:08}_000.png', 'Finding Labels': found[i % 3], 'Follow-up #': 0,
             'Patient ID': i // 3, 'Patient Age': 50} for i in range(30)]
    return table(folder/'Data_Entry_2017.csv', rows)


@pytest.mark.parametrize('given', ['table', 'folder'])
@pytest.mark.parametrize('make, per_class, n_groups, says', [
    (ham, dict(mel=20, nv=20), 20, 'file = image_id, label = dx, group = lesion_id'),
    (isic, dict(MEL=15, NV=15), 0, 'file = image, label = columns of 0 and 1: MEL, NV, UNK'),
    (pcam, {'0': 15, '1': 15}, 0, 'file = id, label = label'),
    (aptos, {'0': 15, '1': 15}, 0, 'file = id_code, label = diagnosis'),
    (nih, dict(Edema=20, Mass=20), 10, 'file = Image Index, label = Finding Labels, group = Patient ID')])
def test_known_sets(tmp_path, make, per_class, n_groups, says, given):
    file = make(tmp_path)
    d, notes = told(file if given == 'table' else tmp_path)
    assert (counts(d), len(groups(d))) == (per_class, n_groups) and says in notes
    assert d.train.task == ('multi-label' if make is nih else 'multi-class')


def padufes(folder):
    pictures(folder, [f'images/PAT_{i}.png' for i in range(30)])
    rows = [dict(patient_id=f'PAT_{i // 3}', smoke=str(i % 2 == 0), drink=str(i % 2 == 1),
                 diagnostic=('NEV', 'BCC')[i % 2], img_id=f'PAT_{i}.png') for i in range(30)]
    return table(folder/'metadata.csv', rows)


def test_a_label_column_by_name_comes_before_columns_of_true_and_false(tmp_path):
    d, notes = told(padufes(tmp_path))
    assert counts(d) == dict(BCC=15, NEV=15) and 'label = diagnostic, group = patient_id' in notes


def test_the_table_of_most_images_counts(tmp_path):
    nih(tmp_path)
    table(tmp_path/'BBox_List_2017.csv', [{'Image Index': '00000001_000.png', 'Finding Label': 'Mass', 'x': 1, 'y': 2}])
    (tmp_path/'test_list.txt').write_text('00000001_000.png\n')
    d, notes = told(tmp_path)
    assert counts(d) == dict(Edema=20, Mass=20) and 'test_list.txt list images' in notes


def test_folds_of_breakhis_say_the_split(tmp_path):
    names = pictures(tmp_path, [f'{c}/{c}-14-{i}.png' for c in CLASSES for i in range(15)])
    rows = [dict(mag=40, grp=('train', 'train', 'test')[i % 3], filename=n) for i, n in enumerate(names)]
    table(tmp_path/'Folds.csv', rows)
    d, notes = told(tmp_path)
    assert 'split = grp' in notes and len(d.test) == 10 and counts(d) == dict(benign=15, malignant=15)


def test_json_lines_of_hugging_face(tmp_path):
    names = pictures(tmp_path, [f'train/{i}.png' for i in range(30)])
    lines = [f'{{"file_name": "{i}.png", "label": "{CLASSES[i % 2]}"}}\n' for i in range(len(names))]
    (tmp_path/'train'/'metadata.jsonl').write_text(''.join(lines))
    assert counts(told(tmp_path)[0]) == dict(benign=15, malignant=15)


def test_ids_whose_zeros_a_spreadsheet_dropped(tmp_path):
    pictures(tmp_path, [f'{i:04}.png' for i in range(30)])
    d, notes = told(table(tmp_path/'labels.csv', [dict(id=i, label=CLASSES[i % 2]) for i in range(30)]))
    assert counts(d) == dict(benign=15, malignant=15) and '0000.png' in notes


def test_all_missing_files_are_counted(thirty):
    folder, rows = thirty
    gone = [dict(path=f'gone{i}.png', label='benign') for i in range(5)]
    file = table(folder/'labels.csv', [*rows, *gone])
    with pytest.raises(SourceError, match='line 32.*gone0.png.*5 of 35 rows'): load(file)


def chexpert(folder, uncertain):
    rows = []
    for split, n in dict(train=40, valid=12).items():
        for i in range(n):
            name = f'CheXpert-v1.0-small/{split}/patient{n + i // 2:05}/study1/view{i % 2}.jpg'
            pictures(folder, [name])
            edema = '-1.0' if split == 'train' and i < uncertain else f'{i % 2}.0'
            rows.append({'Path': name, 'Sex': 'Male', 'Age': 60, 'Frontal/Lateral': 'Frontal', 'No Finding': '',
                         'Edema': edema, 'Fracture': '1.0' if i % 3 else ''})
        table(folder/'CheXpert-v1.0-small'/f'{split}.csv', rows[-n:])
    return folder/'CheXpert-v1.0-small'


def test_chexpert_leaves_uncertain_images_out(tmp_path):
    d, notes = told(chexpert(tmp_path, 6))
    assert len(d.train) + len(d.test) == 34 and len(d.val) == 12 and d.train.task == 'multi-label'
    assert d.train.classes == ('Edema', 'Fracture') and '6 images with label -1 (uncertain) are left out' in notes
    assert 'empty cells count as 0' in notes and 'group = folder patient00040' in notes
    assert not set(d.train.groups) & set(d.test.groups)


def test_chexpert_is_refused_where_most_is_uncertain(tmp_path):
    folder = chexpert(tmp_path, 30)
    with pytest.raises(LabelError, match='uncertain.* 30 of 40 rows.*--label'): load(folder)
    d, notes = told(folder, label_column='Fracture,No Finding', check=False)
    assert (len(d.train), d.train.task) == (32, 'multi-label')


@pytest.mark.parametrize('named', ['file_name', 'image'])
def test_hugging_face_folders(tmp_path, named):
    for split, n in dict(train=24, test=8).items():
        pictures(tmp_path/split, [f'{i}.png' for i in range(n)])
        table(tmp_path/split/'metadata.csv', [{named: f'{i}.png', 'label': CLASSES[i % 2]} for i in range(n)])
    d, notes = told(tmp_path)
    assert sizes(d) == dict(train=21, val=3, test=8) and f'file = {named}' in notes


def cell_painting(folder, plates):
    rows = []
    for i in range(24):
        channels = {}
        for k, name in enumerate(('DAPI', 'Tubulin', 'Actin')):
            file = folder/f'Week1/Week1_{22123 + i % plates}'/f'B{i:02}_{name}.tif'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(60*k, 60*k + 50, (8, 8), dtype=np.uint8)).save(file)
            channels |= {f'Image_FileName_{name}': file.name, f'Image_PathName_{name}': f'Week1/{file.parent.name}'}
        plate = f'Week1_{22123 + i % plates}'
        compound = ('DMSO', 'taxol')[i // 12]
        rows.append(channels | dict(Image_Metadata_Plate_DAPI=plate, Image_Metadata_Compound=compound))
    return table(folder/'BBBC021_v1_image.csv', rows)


def test_a_column_per_channel(tmp_path):
    d, notes = told(cell_painting(tmp_path, 6))
    assert (d.train.channels, len(groups(d))) == (('DAPI', 'Tubulin', 'Actin'), 6)
    assert (d.train.images.reshape(-1, 3).min(0) // 60 == [0, 1, 2]).all()
    assert counts(d) == dict(DMSO=12, taxol=12) and 'group = Image_Metadata_Plate_DAPI' in notes


def test_one_plate_is_no_group(tmp_path):
    d, notes = told(cell_painting(tmp_path, 1))
    assert d.train.groups is None and 'Image_Metadata_Plate_DAPI is the same everywhere' in notes


@pytest.mark.parametrize('given', ['', 'train.csv'])
def test_single_cells_of_the_protein_atlas(tmp_path, given):
    for i in range(20):
        for k, colour in enumerate(('red', 'green', 'blue', 'yellow')):
            file = tmp_path/'train'/f'c{i}_{colour}.png'
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(RNG.integers(60*k, 60*k + 50, (8, 8), dtype=np.uint8)).save(file)
    table(tmp_path/'train.csv', [dict(ID=f'c{i}', Label=('0|16', '18')[i % 2]) for i in range(20)])
    d, _ = told(tmp_path/given)
    assert counts(d) == dict(Nucleoplasm=10, Cytosol=10, Negative=10) and d.train.n_channels == 4


# Groups and splits

@pytest.mark.parametrize('column', ['patient_id', 'PatientID', 'Patient ID', 'subject', 'donor_no', 'lesion_id',
                                    'slide', 'WSI_name', 'plate', 'Well', 'case_id', 'group', 'mouse', 'scan_date',
                                    'anon_patient_id', 'Metadata_Plate', 'Patienten-ID', 'sample_id', 'source_image',
                                    'bcr_patient_barcode'])
def test_group_columns_are_used_and_said(thirty, column):
    folder, rows = thirty
    d, notes = told(table(folder/'labels.csv', [row | {column: f'P{i // 3}'} for i, row in enumerate(rows)]))
    assert len(groups(d)) == 10 and (column == 'group' or f'group = {column}' in notes)
    for a, b in ('train', 'val'), ('train', 'test'), ('val', 'test'):
        assert not set(getattr(d, a).groups) & set(getattr(d, b).groups)
    assert told(table(folder/'labels.csv', rows))[0].train.groups is None


def test_the_widest_group_counts(thirty):
    folder, rows = thirty
    rows = [row | dict(lesion_id=f'L{i // 2}', patient=f'P{i // 6}', site=f'S{i % 3}') for i, row in enumerate(rows)]
    file = table(folder/'labels.csv', rows)
    d, notes = told(file)
    assert groups(d) == {f'P{i}' for i in range(5)} and 'lesion_id looks like a group too' in notes
    assert len(groups(told(file, group_column='lesion_id')[0])) == 15
    assert told(file, group_column='none')[0].train.groups is None


@pytest.mark.parametrize('column', ['hospital', 'embryo', 'visit', 'rad_id', 'my column'])
def test_a_faint_group_is_pointed_at(thirty, column):
    folder, rows = thirty
    d, notes = told(table(folder/'labels.csv', [row | {column: f'H{i % 4}'} for i, row in enumerate(rows)]))
    option = "'my column'" if ' ' in column else column
    assert d.train.groups is None and f'{column} may be a group, and is not used: --group {option}' in notes


def test_measurements_are_no_groups(thirty):
    folder, rows = thirty
    more = [row | dict(age=40 + i % 9, sex='fm'[i % 2], lesion_type='abc'[i % 3]) for i, row in enumerate(rows)]
    assert 'may be' not in told(table(folder/'labels.csv', more))[1]


def test_file_names_that_begin_alike_are_groups(tmp_path):
    names = pictures(tmp_path, [f'{i}_{eye}.png' for i in range(15) for eye in ('left', 'right')])
    file = table(tmp_path/'labels.csv', [dict(path=n, label=CLASSES[i % 2]) for i, n in enumerate(names)])
    d, notes = told(file)
    assert len(groups(d)) == 15 and 'names differ only in left, right' in notes
    assert told(file, group_column='none')[0].train.groups is None


def test_two_patients_are_too_few(thirty):
    folder, rows = thirty
    file = table(folder/'labels.csv', [row | dict(patient=f'P{i % 2}') for i, row in enumerate(rows)])
    with pytest.raises(LeakError, match='group = patient has 2 values.*--group none'): load(file)
    assert told(file, group_column='none')[0].train.groups is None


def test_images_without_a_group_are_their_own(thirty):
    folder, rows = thirty
    rows = [row | dict(lesion='' if i < 4 else i // 4) for i, row in enumerate(rows)]
    d, notes = told(table(folder/'labels.csv', rows))
    assert len(groups(d)) == 4 + 7 and '4 images without lesion are a group each' in notes


def test_patients_in_folders(tmp_path):
    names = pictures(tmp_path, [f'Patient_{i // 3:02}/{i}.png' for i in range(30)])
    d, notes = told(table(tmp_path/'labels.csv', [dict(path=n, label=CLASSES[i % 2]) for i, n in enumerate(names)]))
    assert len(groups(d)) == 10 and 'group = folder Patient_00' in notes


@pytest.mark.parametrize('column, cells, expected', [
    ('subset', ['train', 'val', 'test'], dict(train=10, val=10, test=10)),
    ('set', ['Training', 'Validation', 'Testing'], dict(train=10, val=10, test=10)),
    ('Usage', ['Training', 'PublicTest', 'PrivateTest'], dict(train=10, val=10, test=10)),
    ('phase', ['train', 'train', 'test'], dict(train=18, val=2, test=10)),
    ('fold', ['0', '1', '2'], dict(train=10, val=10, test=10)),
    ('kfold', ['0', '0', '1'], dict(train=18, val=2, test=10)),
    ('is_valid', ['False', 'False', 'True'], dict(train=16, val=10, test=4)),
    ('is_test', ['0', '0', '1'], dict(train=18, val=2, test=10)),
    ('test', ['0', '0', '1'], dict(train=18, val=2, test=10)),
    ('grp', ['train', 'val', 'test'], dict(train=10, val=10, test=10)),
    ('type', ['train', 'val', 'test'], dict(train=10, val=10, test=10)),
    ('cohort', ['internal', 'internal', 'external'], dict(train=18, val=2, test=10)),
    ('phase', ['I', 'II', 'III'], dict(train=21, val=3, test=6)),
    ('split', ['train', 'dev', 'scanner'], None)])
def test_split_columns_are_used_and_said(thirty, column, cells, expected):
    folder, rows = thirty
    d, notes = told(table(folder/'labels.csv', [row | {column: cells[i // 2 % 3]} for i, row in enumerate(rows)]))
    found = sizes(d)
    if expected is None: assert found.pop('scanner') == 10 and found['val'] == 10
    elif sum(found.values()) == 30 and column in ('is_valid', 'phase', 'kfold', 'is_test', 'test', 'cohort'):
        assert abs(found['train'] - expected['train']) <= 1 and found['test'] in (expected['test'], 5, 6, 4)
    else: assert found == expected
    used = 'I' not in cells
    assert (f'split = {column}' in notes) == (used and column != 'split')


def test_split_of_folders_in_the_paths(tmp_path):
    names = pictures(tmp_path, [f'{s}/{i}.png' for s, n in dict(train=20, test=10).items() for i in range(n)])
    d, notes = told(table(tmp_path/'labels.csv', [dict(path=n, label=CLASSES[i % 2]) for i, n in enumerate(names)]))
    assert len(d.test) == 10 and 'split = folders of the files' in notes


def test_groups_across_given_splits_are_refused(thirty):
    folder, rows = thirty
    rows = [row | dict(patient=i // 3, subset='test' if i % 3 == 2 else 'train') for i, row in enumerate(rows)]
    file = table(folder/'labels.csv', rows)
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter('always')
        with pytest.raises(LeakError, match='straddle'): load(file)
    assert '10 groups lie in several splits of subset: --split none' in str(log[0].message)
    assert len(groups(told(file, split_column='none')[0])) == 10
    assert len(told(file, group_column='none')[0].test) == 10


# A table beside class folders

@pytest.fixture
def class_folders(tmp_path):
    return tmp_path, pictures(tmp_path, [f'{c}/{c}_{i}.png' for c in CLASSES for i in range(15)])


def test_a_table_of_ages_is_no_manifest(class_folders):
    folder, names = class_folders
    table(folder/'metadata.csv', [dict(image=n.split('/')[1], age=40 + i, sex='f') for i, n in enumerate(names)])
    d, _ = told(folder)
    assert counts(d) == dict(benign=15, malignant=15) and d.train.groups is None


@pytest.mark.parametrize('written', [lambda n: n, lambda n: n.split('/')[1], lambda n: n.split('/')[1][:-4],
                                     lambda n: n.replace('/', '\\').upper()])
def test_patients_of_a_sheet(class_folders, written):
    folder, names = class_folders
    rows = [dict(file=written(n), patient_id=f'P{i // 3}', sex='F') for i, n in enumerate(names)]
    table(folder/'patients.csv', rows)
    d, notes = told(folder)
    assert counts(d) == dict(benign=15, malignant=15) and len(groups(d)) == 10
    assert 'patients.csv: names the images; group = patient_id' in notes
    assert told(folder, group_column='none')[0].train.groups is None


def test_a_manifest_beside_class_folders(class_folders):
    folder, names = class_folders
    rows = [dict(path=n, label='ab'[i % 2], patient=i // 3) for i, n in enumerate(names)]
    table(folder/'manifest.csv', rows)
    d, notes = told(folder)
    assert counts(d) == dict(a=15, b=15) and 'group = patient' in notes


def test_label_column_of_a_table_beside_class_folders(class_folders):
    folder, names = class_folders
    table(folder/'clinical.csv', [dict(image=n, sex='mf'[i % 2], age=50) for i, n in enumerate(names)])
    d, notes = told(folder, label_column='SEX')
    assert counts(d) == dict(f=15, m=15) and 'label = sex' in notes
    with pytest.raises(SourceError, match='label_column=weight'): load(folder, label_column='weight')


# Label text

def labelled(folder, *labels, **more):
    "A manifest of thirty images with these labels in turn"
    names = pictures(folder, [f'{i}.png' for i in range(30)])
    rows = [dict(path=n, label=labels[i % len(labels)]) for i, n in enumerate(names)]
    return table(folder/'labels.csv', rows, **more)


@pytest.mark.parametrize('labels, per_class, says', [
    (('a|b', 'a', 'b'), dict(a=20, b=20), "joined by '|'"),
    (('a;b', 'a', 'b'), dict(a=20, b=20), ''),
    (('a, b', 'a', 'b'), dict(a=20, b=20), "joined by ','"),
    (("['a', 'b']", "['a']", "['b']"), dict(a=20, b=20), 'lists'),
    (('["a", "b"]', '["a"]', '[]'), dict(a=20, b=10), 'lists'),
    (("['a' 'b']", "['a']", "['b']"), dict(a=20, b=20), 'lists'),
    (('0 5', '0', '5'), {'0': 20, '5': 20}, "joined by ' '"),
    (('[0, 5]', '[0]', '[5]'), {'0': 20, '5': 20}, 'lists'),
    (('0', '0.0', '1.0'), {'0': 20, '1': 10}, ''),
    (('[1, 0, 0]', '[0, 1, 0]', '[0, 0, 1]'), {'0': 10, '1': 10, '2': 10}, 'lists of 0 and 1'),
    (('[1, 0, 1]', '[0, 1, 0]', '[0, 0, 1]'), {'0': 10, '1': 10, '2': 20}, 'lists of 0 and 1'),
    (('01', '1', '2'), {'1': 20, '2': 10}, 'without leading zeros'),
    (('-1', '1'), {'-1': 15, '1': 15}, ''),
    (('o\u0308l', '\u00f6l', 'x'), {'\u00f6l': 20, 'x': 10}, ''),
    (('cat and dog', 'cat', 'dog'), dict(cat=20, dog=20), "joined by ' and '"),
    (('a', 'b', 'unknown'), dict(a=10, b=10, unknown=10), 'unknown is a class like the others'),
    (('Carcinoma, NOS', 'Adenoma, NOS'), {'Carcinoma, NOS': 15, 'Adenoma, NOS': 15}, 'hold a comma stay whole'),
    (('Benign', 'benign', 'benign', 'bad'), dict(bad=7, benign=23), 'Benign and benign are one class, benign'),
    (('lung cancer', 'Lung_Cancer', 'normal'), {'Lung_Cancer': 20, 'normal': 10}, 'are one class'),
    (('a', 'A'), dict(a=15, A=15), 'differ only in case'),
    (('0', '1', '-1', '1'), {'0': 8, '1': 15}, '7 images with label -1 (uncertain)'),
    (('True', 'False'), {'True': 15, 'False': 15}, '')])
def test_label_text(tmp_path, labels, per_class, says):
    d, notes = told(labelled(tmp_path, *labels))
    assert counts(d) == per_class and says in notes
    assert d.train.task == ('multi-label' if sum(per_class.values()) > 30 or '[]' in labels else 'multi-class')


@pytest.mark.parametrize('text', ['nan', 'NaN', 'NA', 'N/A', 'None', 'null', '<NA>', '?', '-', 'unlabelled', ''])
def test_a_missing_label_is_no_class(tmp_path, text):
    file = labelled(tmp_path, 'a', 'b', text)
    with pytest.raises(LabelError, match='line 4'): load(file)


def test_a_measurement_is_no_class(tmp_path):
    file = labelled(tmp_path, *(f'{i/7:.3f}' for i in range(30)))
    with pytest.raises(LabelError, match='30 different values for 30 images.*--label'): load(file)


def test_rows_per_finding(thirty):
    folder, rows = thirty
    again = [row | dict(label='edema') for row in rows[:20]]
    d, notes = told(table(folder/'labels.csv', sorted([*rows, *again, *rows[20:]], key=lambda row: row['path'])))
    assert sum(sizes(d).values()) == 30 and counts(d) == dict(benign=15, edema=20, malignant=15)
    assert d.train.task == 'multi-label' and '20 images have the labels of all their rows' in notes


def test_one_file_of_two_classes_is_an_error(thirty):
    folder, rows = thirty
    file = table(folder/'labels.csv', [*rows, rows[3] | dict(label='benign')])
    with pytest.raises(LabelError, match='line 5 and line 32 list one file.*malignant and as benign'): load(file)
    d, notes = told(table(folder/'labels.csv', [*rows, rows[3]]))
    assert sum(sizes(d).values()) == 30 and '1 rows name a file again' in notes


def test_one_picture_in_two_classes_is_told(class_folders):
    folder, names = class_folders
    for i in range(4): (folder/'malignant'/f'copy{i}.png').write_bytes((folder/'benign'/f'benign_{i}.png').read_bytes())
    _, notes = told(folder)
    assert '4 pictures have different labels' in notes and 'and 1 more' in notes
    assert 'benign/benign_0.png (benign) = malignant/copy0.png (malignant)' in notes


# inspect, and the command line

def inspected(source, **options):
    "Its problems, and what was printed"
    out = io.StringIO()
    found = inspect(source, Console(file=out, width=400, force_jupyter=False, color_system=None), **options)
    return found, out.getvalue()


def test_inspect_says_what_was_understood_once_and_asks_for_groups(thirty):
    folder, rows = thirty
    file = table(folder/'labels.csv', [row | dict(dx=CLASSES[i // 2 % 2]) for i, row in enumerate(rows)])
    found, text = inspected(file)
    assert found == [] and text.count('file = path, label = label, not used: dx') == 1
    assert 'no groups: do several images show one patient' in text
    assert 'label = dx' in inspected(file, label_column='dx')[1]
    grouped = table(folder/'grouped.csv', [row | dict(patient=i // 3) for i, row in enumerate(rows)])
    assert 'no groups' not in inspected(grouped)[1]
    assert 'group = patient' not in inspected(grouped, group_column='none')[1]


@pytest.mark.parametrize('options, says', [
    (dict(label_column='dx'), 'label_column=dx: no such column; found path, label'),
    (dict(group_column='dx'), 'group_column=dx'), (dict(split_column='dx'), 'split_column=dx')])
def test_columns_that_are_not_there(thirty, options, says):
    folder, rows = thirty
    with pytest.raises(SourceError, match=says): load(table(folder/'labels.csv', rows), **options)


def test_columns_of_what_is_no_table(tmp_path):
    np.savez(tmp_path/'a.npz', train_images=np.zeros((4, 8, 8), np.uint8), train_labels=np.arange(4) % 2)
    with pytest.raises(SourceError, match='label_column=dx: MedMNIST'): load(tmp_path/'a.npz', label_column='dx')
    with pytest.raises(SourceError, match='label_column'): load('simulate', label_column='dx')


# What else lies there

def test_a_table_of_pixels_is_not_read_whole(tmp_path, monkeypatch):
    ham(tmp_path)
    rows = [dict(zip([f'pixel{k:04}' for k in range(40)], range(40))) | dict(label=i % 2) for i in range(5000)]
    table(tmp_path/'hmnist_28_28_L.csv', rows)
    seen = {}
    from synaug.data import manifests
    read = manifests.read_table

    def counted(file, most=None):
        found = read(file, most)
        seen[file.name] = max(len(found), seen.get(file.name, 0))
        return found
    monkeypatch.setattr(manifests, 'read_table', counted)
    d, _ = told(tmp_path)
    assert counts(d) == dict(mel=20, nv=20) and seen['hmnist_28_28_L.csv'] < 1001


@pytest.mark.parametrize('cells', [('0', '1', '2'), ('a', 'b', 'c')])
def test_splits_without_train_are_refused(thirty, cells):
    folder, rows = thirty
    file = table(folder/'labels.csv', [row | dict(split=cells[i % 3]) for i, row in enumerate(rows)])
    with pytest.raises(SourceError, match='and no train.*--split none'): load(file)
    assert len(told(file, split_column='none')[0].train) == 21


def test_a_study_takes_the_columns(thirty):
    from synaug.study.checks import check_data
    from synaug.study.file import read_study
    folder, rows = thirty
    rows = [row | dict(dx='ab'[i // 2 % 2], patient=i // 3, site=i % 5) for i, row in enumerate(rows)]
    file = table(folder/'labels.csv', rows)
    settings = [f'source={file}', 'label_column=dx', 'group_column=none', 'split_column=none', 'labels_per_class=3']
    study = read_study('your-images', [*settings, 'arms=[real]'], 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        (found,) = check_data(study).values()
        expected = load(file, label_column='dx', group_column='none', split_column='none')
        with pytest.raises(SourceError, match='label_column=nowhere'):
            check_data(read_study('your-images', [*settings[:1], 'label_column=nowhere'], 1))
    assert found == expected.fingerprint() and expected.train.classes == ('a', 'b')
