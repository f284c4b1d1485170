"Folders as people have them: wrapped, split, folded, with masks, channels and patients; read rightly, or refused"
import warnings
from io import StringIO
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from synaug.data.inspection import inspect
from synaug.data.sources import load
from synaug.errors import ImageError, LabelError, LeakError, SourceError

PICTURES = '.png', '.jpg', '.tif'
FILES = *PICTURES, '.csv', '.db', '.ini'


def write(top, *places, n=8, size=(6, 6)):
    "`n` different grey pictures in each place below `top`; a place with a suffix is one file, pictures or not"
    rng = np.random.default_rng(crc32(' '.join(places).encode()))
    for place in places:
        files = [place] if Path(place).suffix in FILES else [f'{place}/{i}.png' for i in range(n)]
        for file in files:
            (top/file).parent.mkdir(parents=True, exist_ok=True)
            if Path(file).suffix in PICTURES:
                Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(top/file)
            else: (top/file).write_text('x')
    return top


def read(source, **options):
    "(data set, its notes)"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        data = load(source, cache=False, **options)
    return data, [str(w.message) for w in told]


def sizes(data): return {name: len(s) for name, s in data.splits().items()}


def both(*tops): return [f'{top}/{c}' for top in tops for c in ('benign', 'malignant')]


# Folders that are no classes

@pytest.mark.parametrize('places, said', [
    (both('chest/train', 'chest/val', 'chest/test'), 'read from'),
    (both('dataset/dataset/train', 'dataset/dataset/val', 'dataset/dataset/test'), 'read from'),
    (both('archive/My Data (1)/train', 'archive/My Data (1)/valid', 'archive/My Data (1)/test'), 'read from'),
    (both('images/train', 'images/validation', 'images/test'), 'read from'),
    (both('train', 'val', 'test'), None),
    (both('TRAIN', 'VALIDATION', 'TEST'), None),
    (both('Train', 'Val', 'Test'), None),
    (both('training_set', 'validation_set', 'test_set'), 'train (training_set)'),
    (both('train_data', 'val_data', 'test_data'), 'splits are'),
    (both('Training Images', 'Validation Images', 'Testing Images'), 'splits are'),
    (both('01_train', '02_val', '03_test'), 'splits are'),
    (both('ISIC_2019_Training', 'ISIC_2019_Validation', 'ISIC_2019_Test'), 'splits are'),
    (both('brain-train', 'brain-val', 'brain-test'), 'splits are'),
    (both('trainset', 'devset', 'testset'), 'splits are'),
    (both('C_NMC_training_data/fold_0', 'C_NMC_val', 'C_NMC_test_prelim_phase_data'), 'splits are'),
    (both('entrenamiento', 'validación', 'prueba'), 'splits are'),
    (both('apprentissage', 'validation', 'test'), 'splits are'),
    (both('训练集', '验证集', '测试集'), 'splits are'),
    (both('train/images', 'val/images', 'test/images'), None),
    (both('train/train', 'val/val', 'test/test'), None),
    ([f'{c}/{s}' for c in ('benign', 'malignant') for s in ('train', 'val', 'test')], 'splits are the folders in them'),
    ([f'{s}/{c}/img' for c in ('benign', 'malignant') for s in ('train', 'val', 'test')], None)])
def test_splits_are_splits(tmp_path, places, said):
    data, notes = read(write(tmp_path, *places))
    assert data.train.classes == ('benign', 'malignant')
    assert sizes(data) == dict(train=16, val=16, test=16)
    assert all(s.groups is None for s in data.splits().values())
    assert [note for note in notes if said in note] == notes and len(notes) == 1 if said else notes == []


def test_a_wrapped_set_in_itself_is_read_once(tmp_path):
    inside = both('chest/train', 'chest/test', 'chest/val', 'chest/chest/train', 'chest/chest/test', 'chest/chest/val')
    data, notes = read(write(tmp_path, *inside, '__MACOSX/chest/train/benign/._0.png'))
    assert sizes(data) == dict(train=16, test=16, val=16) and data.train.classes == ('benign', 'malignant')
    assert any('splits of its own' in note for note in notes)


@pytest.mark.parametrize('pool', [
    'unlabelled', 'Unlabeled', 'no_label', 'pool', 'NOT LABELLED', 'unlabeled_data', 'unsup'])
def test_a_pool_beside_classes(tmp_path, pool):
    data, notes = read(write(tmp_path, 'benign', 'malignant', pool, n=10))
    assert data.train.classes == ('benign', 'malignant') and len(data.pool) == 10 and data.pool.labels is None
    assert len(notes) == 1 and 'as pool' in notes[0]


def test_a_labelled_test_folder_beside_classes(tmp_path):
    data, notes = read(write(tmp_path, 'benign', 'malignant', *both('test')))
    assert data.train.classes == ('benign', 'malignant') and len(data.test) == 16
    assert len(notes) == 1 and 'test as test' in notes[0]


@pytest.mark.parametrize('places', [
    ['benign', 'malignant', 'test'], ['benign', 'malignant', 'Test_Images'], [*both('train'), 'test'],
    [*both('train'), 'test/images'], ['benign', 'malignant', 'testing'], ['benign', 'malignant', 'val']])
def test_unlabelled_images_to_test_on(tmp_path, places):
    with pytest.raises(SourceError, match='no folder tells their class; rename .* to pool'):
        read(write(tmp_path, *places))


@pytest.mark.parametrize('folds', [
    ['fold_0', 'fold_1', 'fold_2', 'fold_3'], ['Fold 1', 'Fold 2', 'Fold 3', 'Fold 4'],
    ['cv_a', 'cv_b', 'cv_c', 'cv_d'],
    ['fold1', 'fold2', 'fold3', 'fold4'], ['site 1', 'site 2', 'site 3', 'site 4'],
    ['Plate_A', 'Plate_B', 'Plate_C', 'Plate_D'],
    ['patient_1', 'patient_2', 'patient_3', 'patient_10'], ['10253', '8863', '9036', '12748'], ['P1', 'P2', 'P3', 'P4'],
    ['sub-01', 'sub-02', 'sub-03', 'sub-04'], ['TCGA-AA-3662', 'TCGA-AA-3664', 'TCGA-AZ-4615', 'TCGA-CK-5913']])
def test_folders_that_hold_the_classes_are_groups(tmp_path, folds):
    data, notes = read(write(tmp_path, *both(*folds)))
    assert data.train.classes == ('benign', 'malignant')
    parts = [set(s.groups) for s in (data.train, data.val, data.test)]
    assert set.union(*parts) == set(folds) and sum(map(len, parts)) == 4 and all(parts)
    assert len(notes) == 1 and 'used as groups' in notes[0]


def test_patients_with_one_class_each(tmp_path):
    kinds = ['benign', 'malignant']
    data, notes = read(write(tmp_path, *(f'patient_{i}/{kinds[i % 2]}' for i in range(12))))
    assert data.train.classes == ('benign', 'malignant')
    assert not set(data.train.groups) & set(data.test.groups) and len(notes) == 1


def test_numbered_classes_within_patients(tmp_path):
    data, _ = read(write(tmp_path, *(f'{8863 + 97*i}/{c}' for i in range(6) for c in '01')))
    assert data.train.classes == ('0', '1')
    assert len(set(data.train.groups) | set(data.val.groups) | set(data.test.groups)) == 6


@pytest.mark.parametrize('parts', [
    ['images_part_1', 'images_part_2'], ['fold_1', 'fold_2'], ['images_001', 'images_002']])
def test_parts_are_joined(tmp_path, parts):
    data, notes = read(write(tmp_path, *both(*parts)))
    assert sum(sizes(data).values()) == 32 and data.train.groups is None
    assert len(notes) == 1 and 'joined' in notes[0]


@pytest.mark.parametrize('tops', [
    ['HAM_images_part_1', 'HAM_images_part_2'], ['images_001', 'images_002'], ['patient_1', 'patient_2'],
    ['fold_0', 'fold_1', 'fold_2'], ['part1', 'part2'], ['Slide A', 'Slide B']])
def test_parts_without_classes_are_refused(tmp_path, tops):
    with pytest.raises(SourceError, match='not like classes'): load(write(tmp_path, *tops))


@pytest.mark.parametrize('tops', [
    ['grade_1', 'grade_2'], ['0', '1', '2'], ['type A', 'type B'], ['KL0', 'KL1'], ['n01440764', 'n01443537'],
    ['001.ak47', '002.flag'], ['COVID-19', 'normal'], ['well differentiated', 'poorly differentiated'],
    ['HER2 [3+]', 'HER2 0'],
    ['mask', 'no_mask'], ['with_mask', 'without_mask'], ['slide', 'plate'], ['red', 'green', 'blue'], ['p53', 'p21'],
    ['day 1', 'day 2'], ['good', 'bad'], ['test tube', 'flask'], ['left', 'right'], ['none', 'Null'], ['nan', 'NA']])
def test_classes_stay_classes(tmp_path, tops):
    data, notes = read(write(tmp_path, *tops))
    assert set(data.train.classes) == set(tops) and notes == []


@pytest.mark.parametrize('tops', [['north', 'south'], ['40X', '100X'], ['raw', 'enhanced'], ['1', '2']])
def test_what_may_be_read_in_two_ways_is_refused(tmp_path, tops):
    with pytest.raises(SourceError, match='all hold the folders benign, malignant, so which are the classes'):
        load(write(tmp_path, *both(*tops)))


@pytest.mark.parametrize('tops', [['fold_1', 'fold_2'], ['Dataset A', 'Dataset B']])
def test_several_sets_in_one_folder_are_refused(tmp_path, tops):
    places = [f'{top}/{part}' for top in tops for part in both('train', 'test')]
    with pytest.raises(SourceError, match='hold splits of their own; give one of them'): load(write(tmp_path, *places))


@pytest.mark.parametrize('inside', [[], ['train', 'test']])
def test_labelled_beside_unlabelled(tmp_path, inside):
    tops = [f'labeled-images/{split}' for split in inside] or ['labeled-images']
    data, _ = read(write(tmp_path, *both(*tops), 'unlabeled-images'))
    assert data.train.classes == ('benign', 'malignant') and len(data.pool) == 8


def test_masks_within_splits(tmp_path):
    data, notes = read(write(tmp_path, *both('train/images', 'train/masks', 'test/images', 'test/masks')))
    assert data.train.classes == ('benign', 'malignant') and sum(sizes(data).values()) == 32 and len(notes) == 1


def test_breakhis_as_it_unpacks(tmp_path):
    kinds = {'benign': ('B_A', 'B_F'), 'malignant': ('M_DC', 'M_LC')}
    places = [f'BreaKHis_v1/breast/{c}/SOB/{k}type/SOB_{k}_14-{229 + 10*i}AB/{z}X' for c, both in kinds.items()
              for k in both for i in range(4) for z in (40, 100)]
    data, _ = read(write(tmp_path, *places, 'BreaKHis_v1/README.ini', n=2))
    groups = [set(s.groups) for s in (data.train, data.val, data.test)]
    assert data.train.classes == ('benign', 'malignant')
    assert len(set.union(*groups)) == 16 == sum(map(len, groups))


def test_the_set_once_more_within_it(tmp_path):
    data, notes = read(write(tmp_path, *both('cells', 'cells/cells')))
    assert data.train.classes == ('benign', 'malignant') and any('holds the classes again' in note for note in notes)


@pytest.mark.parametrize('beside, says', [('plots', 'no class by its name'), ('predictions', 'as pool'),
                                          ('unknown', 'read as a class like the others')])
def test_folders_beside_classes_that_may_be_none(tmp_path, beside, says):
    data, notes = read(write(tmp_path, 'benign', 'malignant', beside))
    assert any(says in note for note in notes)
    assert data.train.n_classes == 2 + (beside == 'unknown')


@pytest.mark.parametrize('places, says', [
    (('set1', 'set2', 'set3'), 'look like parts'), (('session_1', 'session_2'), 'look like parts'),
    (('lung_sets/aca', 'lung_sets/n', 'gut_sets/aca2', 'gut_sets/n2'), 'are the folders gut_sets, lung_sets the')])
def test_sets_and_sessions_are_no_classes(tmp_path, places, says):
    with pytest.raises(SourceError, match=says): load(write(tmp_path, *places))


def test_a_split_and_a_class_in_one_name(tmp_path):
    names = ['train_benign', 'train_malignant', 'test_benign', 'test_malignant']
    with pytest.raises(SourceError, match='name a split and a class at once'): load(write(tmp_path, *names))


@pytest.mark.parametrize('places, says', [
    (['cells'], 'fewer than 2 classes, cells'), (['wrap/cells'], 'fewer than 2 classes, cells'),
    (['train/cells', 'val/cells', 'test/cells'], 'fewer than 2 classes, cells')])
def test_one_class_is_refused(tmp_path, places, says):
    with pytest.raises(LabelError, match=says): read(write(tmp_path, *places))
    assert f'{says}: nothing to tell apart' in inspect(tmp_path, Console(file=StringIO()))


@pytest.mark.parametrize('patients', [
    ['P1', 'P2', 'P3'], ['001', '002', '003'], ['SOB_B_14-1', 'SOB_B_14-2', 'SOB_B_15-3']])
def test_patients_of_one_class_are_no_classes(tmp_path, patients):
    with pytest.raises(SourceError, match='cells, with P1|cells, with 001|cells, with SOB'):
        load(write(tmp_path, *(f'cells/{p}' for p in patients)))
    if patients[0] == '001': assert load(tmp_path/'cells').train.n_classes == 3        # asked for by name


def test_a_class_spelled_otherwise_is_one_class_and_another_is_refused(tmp_path):
    with pytest.warns(UserWarning, match='NORMAL and Normal are one class'):
        found = load(write(tmp_path/'case', 'train/Normal', 'train/Sick', 'test/NORMAL', 'test/Sick'))
    assert sorted(found.train.classes) == sorted(found.test.classes) and found.train.n_classes == 2
    with pytest.raises(LabelError, match="'Norm' is not among the classes .*: Normal, Sick; rename"):
        load(write(tmp_path/'other', 'train/Normal', 'train/Sick', 'test/Norm', 'test/Sick'))


def test_patients_of_several_sites_hold_the_classes(tmp_path):
    sites = [f'site{s}/patient{s}{p}/{c}' for s in (1, 2, 3) for p in (1, 2) for c in ('benign', 'malignant')]
    with pytest.warns(UserWarning, match='hold the classes benign, malignant'): found = load(write(tmp_path, *sites))
    assert found.train.classes == ('benign', 'malignant') and found.train.groups is not None


@pytest.mark.parametrize('places', [['0.png', '1.png'], ['images'], ['train/images', 'test/images'], ['train', 'val']])
def test_images_of_no_class_are_refused(tmp_path, places):
    with pytest.raises(SourceError, match='lie outside the class folders|no folder tells their class'):
        load(write(tmp_path, *places))


def test_a_table_beside_is_named(tmp_path):
    write(tmp_path, 'part_1', 'part_2', 'HAM_metadata.csv')
    with pytest.raises(SourceError, match='not like classes.*HAM_metadata.csv lies beside them: give it as the source'):
        read(tmp_path)
    _, notes = read(write(tmp_path/'other', 'benign', 'malignant', 'patients.csv'))
    assert len(notes) == 1 and 'patients.csv' in notes[0]


# Groups

@pytest.mark.parametrize('patient', ['SOB_{0}_14-{1}', 'patient{1}_{0}', 'P{0}{1}', 'slide {1}{0}', '{1}003{0}'])
@pytest.mark.parametrize('below', ['', '/40X', '/images'])
@pytest.mark.parametrize('above', ['', 'SOB/'])
def test_patients_within_a_class(tmp_path, patient, below, above):
    places = [f'{c}/{above}{patient.format(c[0], 11 + i)}{below}' for c in ('benign', 'malignant') for i in range(6)]
    data, notes = read(write(tmp_path, *places, n=4))
    parts = [set(s.groups) for s in (data.train, data.val, data.test)]
    assert len(set.union(*parts)) == 12 == sum(map(len, parts)) and data.train.classes == ('benign', 'malignant')
    assert len(notes) == 1 and 'used as groups' in notes[0]


def test_short_numbers_are_patients_of_their_class(tmp_path):
    numbered = [f'benign/{i}' for i in range(1, 7)] + [f'malignant/{i}' for i in range(1, 6)]
    data, _ = read(write(tmp_path, *numbered, n=4))
    assert len(set(data.train.groups) | set(data.val.groups) | set(data.test.groups)) == 11


def test_the_same_patient_in_two_classes(tmp_path):
    data, _ = read(write(tmp_path, *(f'{c}/patient_{i}' for c in ('lesion', 'skin') for i in range(9)), n=3))
    parts = [set(s.groups) for s in (data.train, data.val, data.test)]
    assert len(set.union(*parts)) == 9 == sum(map(len, parts))


def test_a_patient_on_both_sides_is_a_leak(tmp_path):
    places = [f'{s}/{c}/patient_{i}' for s in ('train', 'val', 'test') for c in ('a', 'b')
              for i in range(dict(train=0, val=10, test=9)[s], dict(train=10, val=12, test=10)[s])]
    with pytest.raises(LeakError, match='straddle train and test .*patient_9'): read(write(tmp_path, *places, n=3))


def test_subtypes_are_not_patients(tmp_path):
    data, notes = read(write(tmp_path, 'benign/adenosis', 'benign/fibroma', 'malignant/ductal', 'malignant/lobular'))
    assert data.train.groups is None and len(notes) == 1 and 'not used' in notes[0] and 'manifest.csv' in notes[0]


def test_too_few_groups_say_where_they_are_from(tmp_path):
    with pytest.raises(LeakError, match='2 groups cannot be split.*groups are the folders.*--group none'):
        read(write(tmp_path, *both('patient_1', 'patient_2')))


def test_dates_are_days(tmp_path):
    dated = [f'{q}/2001{d:02}_{i}.png' for q in ('good', 'bad') for d in (1, 2) for i in range(6)]
    with pytest.raises(LeakError, match='2 groups.*dates YYMMDD.*manifest.csv'): load(write(tmp_path/'days', *dated))
    ids = [f'{q}/{100234 + 37*i}_left.png' for q in ('good', 'bad') for i in range(12)]
    data, notes = read(write(tmp_path/'ids', *ids))
    assert data.train.groups is None and notes == []


# No sample of their own

@pytest.mark.parametrize('image, mask', [
    ('{c}/images/{i}.png', '{c}/masks/{i}.png'), ('{c}/images/{i}.png', '{c}/Mask/{i}.png'),
    ('images/{c}/{i}.png', 'masks/{c}/{i}.png'), ('{c}/{i}.png', '{c}/{i}_mask.png'),
    ('{c}/{c} ({i}).png', '{c}/{c} ({i})_mask.png'), ('{c}/{i}.jpg', '{c}/{i}_segmentation.png'),
    ('{c}/{i}.png', 'annotations/{c}/{i}.png'), ('train/{c}/{i}.png', 'train_masks/{c}/{i}.png'),
    ('{c}/img_{i}.png', '{c}/mask_{i}.png'), ('{c}/{i}.png', '{c}/{i}-seg.png'), ('{c}/{i}.tif', '{c}/{i}_label.png'),
    ('{c}/{i}.png', '{c}/ground truth/{i}.png'), ('{c}/{i}_image.png', '{c}/{i}_GT.png'),
    ('{c}/{i}.png', '{c}/labels/{i}.png'), ('{c}/{i}.png', '{c}/{i}_overlay.png'),
    ('{c}/{i}.png', '{c}/{i}_heatmap.png'), ('{c}/{i}.png', '{c}/{i}_thumb.png'), ('{c}/{i}.png', '{c}/{i}Mask.png'),
    ('{c}/images/{i}.png', '{c}/lung masks/{i}.png'), ('{c}/{i}.png', '{c}/thumbnails/{i}.png')])
def test_masks_are_no_images(tmp_path, image, mask):
    names = [name.format(c=c, i=i) for c in ('Sick', 'Well') for i in range(12) for name in (image, mask)]
    data, notes = read(write(tmp_path, *names))
    assert sum(sizes(data).values()) == 24 and data.train.classes == ('Sick', 'Well')
    assert len([note for note in notes if '24 masks' in note]) == 1


@pytest.mark.parametrize('name, channels', [
    ('{c}/B{i}_s1_{w}.tif', ['w1', 'w2', 'w3']), ('{c}/{i}_{w}.png', ['red', 'green', 'blue']),
    ('{c}/{i}_{w}.tif', ['ch00', 'ch01']), ('{c}/{i}_{w}.tif', ['DAPI', 'GFP']), ('{c}/{w}-{i}.tif', ['C1', 'C2']),
    ('{c}/well{i}-{w}.tif', ['ch1', 'ch2', 'ch3', 'ch4']), ('{c}/{w}/{i}.tif', ['DAPI', 'FITC']),
    ('{w}/{c}/{i}.tif', ['Cy5', 'DAPI']), ('train/{c}/{i}_{w}.jpg', ['red', 'green', 'blue', 'yellow']),
    ('{c}/r01c{i}f01p01-{w}sk1fk1fl1.tif', ['ch1', 'ch2']), ('{c}/cell{i}_{w}.png', ['R', 'G', 'B']),
    ('{c}/cell{i}_{w}.tif', ['405nm', '561nm']), ('{c}/B - {i}(fld 1 wv {w}).tif', ['DAPI - DAPI', 'FITC - FITC']),
    ('{c}/A_B{i}_T0001F001L01A01Z01{w}.tif', ['C01', 'C02']), ('{c}/xy{i}{w}.tif', ['c1', 'c2', 'c3'])])
def test_files_of_channels_are_joined(tmp_path, name, channels):
    names = [name.format(c=c, i=i, w=w) for c in ('DMSO', 'taxol') for i in range(10, 22) for w in channels]
    data, notes = read(write(tmp_path, *names))
    assert sum(sizes(data).values()) == 24 and data.train.classes == ('DMSO', 'taxol')
    assert data.train.channels == tuple(w.lower() for w in channels)
    assert len([note for note in notes if 'one file per channel' in note]) == 1


def test_the_joined_channels_are_those_of_one_image(tmp_path):
    value = {'w1': 10, 'w2': 20}
    for c in ('a', 'b'):
        for i in range(10):
            for w in value:
                (tmp_path/c).mkdir(exist_ok=True)
                pixels = np.full((4, 4), value[w] + i + 100*(c == 'b'), np.uint8)
                Image.fromarray(pixels).save(tmp_path/c/f'{i}_{w}.png')
    data, _ = read(tmp_path)
    for s in data.splits().values():
        assert (s.images[..., 1].astype(int) - s.images[..., 0] == 10).all()
        assert ((s.images[:, 0, 0, 0] > 100) == (s.labels[:, 1] == 1)).all()


def test_a_letter_at_the_end_of_a_word_is_no_channel(tmp_path):
    data, notes = read(write(tmp_path, *(f'{c}/{c}{i}.png' for c in ('infected', 'treated') for i in range(9))))
    assert sum(sizes(data).values()) == 18 and data.train.n_channels == 1 and notes == []


@pytest.mark.parametrize('endings', [('left', 'right'), ('z0', 'z1', 'z2'), ('405', '561'), ('CC', 'MLO')])
def test_names_that_begin_alike_are_groups(tmp_path, endings):
    names = [f'{c}/case{i}_{e}.png' for c in ('Sick', 'Well') for i in range(8) for e in endings]
    data, notes = read(write(tmp_path, *names))
    assert 'names differ only in' in notes[0] and sum(sizes(data).values()) == 16*len(endings)
    assert sum(len(set(s.groups)) for s in data.splits().values()) == 16
    assert read(tmp_path, group_column='none')[0].train.groups is None


def test_patients_in_file_names(tmp_path):
    names = [f'{c}/patient{100*k + i}_{j}.png' for k, c in enumerate('ab') for i in range(5) for j in range(1 + i % 3)]
    data, notes = read(write(tmp_path, *names))
    assert len(notes) == 1 and 'such as patient' in notes[0]
    assert sum(len(set(s.groups)) for s in data.splits().values()) == 10


def test_names_in_several_given_splits_are_said_and_not_used(tmp_path):
    of_split = dict(train='left', test='right').items()
    names = [f'{s}/{c}/{i}{c}_{eye}.png' for c in 'ab' for i in range(6) for s, eye in of_split]
    data, notes = read(write(tmp_path, *names))
    assert data.train.groups is None and any('lie in several splits, and are not used' in note for note in notes)


def test_a_missing_channel_is_refused(tmp_path):
    names = [f'{c}/{i}_{w}.tif' for c in 'ab' for i in range(10) for w in ('w1', 'w2')]
    write(tmp_path, *names[:-1])
    with pytest.raises(SourceError, match='b/9.tif: channel w2 is missing'): load(tmp_path)


# What lies about, and limits

def test_system_files_need_no_word(tmp_path):
    junk = ['a/Thumbs.db', 'b/.hidden.png', 'a/._0.png', '__MACOSX/a/._0.png', 'desktop.ini',
            '.ipynb_checkpoints/0.png', '@eaDir/a/0.png', '$RECYCLE.BIN/0.png']
    data, notes = read(write(tmp_path, 'a', 'b', *junk))
    assert sum(sizes(data).values()) == 16 and notes == []


def test_links_in_a_circle_end(tmp_path):
    write(tmp_path, 'a', 'b')
    (tmp_path/'a'/'up').symlink_to(tmp_path, target_is_directory=True)
    (tmp_path/'a'/'over').symlink_to(tmp_path/'b', target_is_directory=True)
    (tmp_path/'b'/'over').symlink_to(tmp_path/'a', target_is_directory=True)
    data, _ = read(tmp_path)
    assert sum(sizes(data).values()) == 32                      # each folder by two ways, and not for ever
    (tmp_path/'a'/'over').unlink()
    (tmp_path/'b'/'over').unlink()
    data, notes = read(tmp_path)
    assert sum(sizes(data).values()) == 16 and notes == []


def test_a_scan_is_no_sample(tmp_path):
    for c in 'ab':
        (tmp_path/c).mkdir()
        Image.new('L', (11_000, 9_000), ord(c)).save(tmp_path/c/'0.png')
    with warnings.catch_warnings(), pytest.raises(ImageError, match='0.png: 99 million pixels .* cut it into tiles'):
        warnings.simplefilter('error')
        load(tmp_path, size=32)
