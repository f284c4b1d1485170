"Images as people have them, from files to `synaug inspect`: read with the right values, or refused in one line"
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from synaug.cli import main
from synaug.data.sources import load
from synaug.study.machine import cores

SHAPE = 32, 32, 3


def photo(i, shape=SHAPE):
    "A picture of its own, with bright and dark, smooth enough for JPEG"
    rng = np.random.default_rng(i)
    coarse = rng.integers(0, 256, (*(max(n//4, 1) for n in shape[:2]), shape[2]), dtype=np.uint8)
    planes = [Image.fromarray(coarse[..., c]).resize(shape[1::-1], Image.BICUBIC) for c in range(shape[2])]
    return np.stack(planes, -1)


def folders(top, save, n=12, classes=('benign', 'malignant')):
    "A folder per class, in which `save(path without ending, i)` has written image i"
    for k, name in enumerate(classes):
        (top/name).mkdir(parents=True)
        for j in range(n): save(top/name/str(j), k*n + j)
    return top


def saved(suffix, **more):
    return lambda path, i: Image.fromarray(photo(i)).save(path.with_suffix(suffix), **more)


def tiff(make, **more):
    return lambda path, i: tifffile.imwrite(path.with_suffix('.tif'), make(photo(i)), **more)


@pytest.fixture
def inspect(capsys, monkeypatch, tmp_path):
    "Runs `synaug inspect`; its exit code and all that it said"
    monkeypatch.setenv('SYNAUG_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr('synaug.study.beforehand.trial_seconds', lambda *trial: 60.*min(8, cores()))
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['synaug', 'inspect', *map(str, args)])
        code = 0
        try: main()
        except SystemExit as stopped: code = stopped.code or 0
        said = capsys.readouterr()
        assert 'Traceback' not in said.err and 'Warning' not in said.err
        return code, said.out + said.err
    return run


READ = {
    'bmp': (saved('.bmp'), (SHAPE, 'uint8')),
    'webp': (saved('.webp'), (SHAPE, 'uint8')),
    'jfif': (saved('.jfif', format='JPEG'), (SHAPE, 'uint8')),
    'one bit': (lambda p, i: Image.fromarray(photo(i)[..., 0] > 90).save(p.with_suffix('.tif')),
                ((32, 32, 1), 'uint8')),
    'unit floats': (tiff(lambda a: a[..., 0].astype(np.float32)/255), ((32, 32, 1), 'uint16')),
    'int32': (tiff(lambda a: a[..., 0].astype(np.int32)), ((32, 32, 1), 'uint8')),
    'opaque': (tiff(lambda a: np.insert(a, 3, 255, -1), photometric='rgb', extrasamples=['unassalpha']),
               (SHAPE, 'uint8')),
    'palette': (lambda p, i: Image.fromarray(photo(i)).quantize(64).save(p.with_suffix('.tif')), (SHAPE, 'uint8')),
    'white is zero': (tiff(lambda a: 255 - a[..., 0], photometric='miniswhite'), ((32, 32, 1), 'uint8')),
    'cmyk': (lambda p, i: Image.fromarray(photo(i)).convert('CMYK').save(p.with_suffix('.jpg')), (SHAPE, 'uint8')),
    'stains': (tiff(lambda a: np.moveaxis(np.repeat(a[:16, :16], 10, 2), 2, 0), photometric='minisblack'),
               ((16, 16, 30), 'uint8'))}


@pytest.mark.parametrize('kind', READ)
def test_read_as_shown(kind, tmp_path, inspect):
    save, (shape, dtype) = READ[kind]
    code, said = inspect(folders(tmp_path/'data', save))
    assert code == 0 and 'no problems' in said, said
    images = load(tmp_path/'data').train.images
    assert (images.shape[1:], str(images.dtype)) == (shape, dtype)
    assert images.max() > .5*np.iinfo(images.dtype).max


@pytest.mark.parametrize('turn', range(1, 9))
def test_turned_by_exif(turn, tmp_path):
    def save(path, i):
        exif = Image.Exif()
        exif[274] = turn
        Image.fromarray(photo(i, (24, 40, 3))).save(path.with_suffix('.png'), exif=exif)
    assert load(folders(tmp_path/'data', save)).train.size == ((24, 40) if turn < 5 else (40, 24))


def test_grey_among_colour(tmp_path, inspect):
    def save(path, i): Image.fromarray(photo(i) if i % 3 else photo(i)[..., 0]).save(path.with_suffix('.png'))
    code, said = inspect(folders(tmp_path/'data', save))
    assert code == 0 and said.count('8 of 24 images are grey') == 1


def test_several_sizes_once_a_size_is_given(tmp_path, inspect):
    def save(path, i): Image.fromarray(photo(i, ((24, 40), (32, 32))[i % 2] + (3,))).save(path.with_suffix('.png'))
    top = folders(tmp_path/'data', save)
    code, said = inspect(top)
    assert code == 2 and '24x40 (12 images' in said and '--size 24' in said and '-p size=24' in said
    code, said = inspect(top, '--size', 24)
    assert code == 0 and 'squeezed to 24x24: all of the picture is kept' in said and 'p size=24' in said
    assert inspect(top, '--size', 0)[0] == 2


def test_a_mark_at_the_edge_stays(tmp_path):
    def save(path, i):
        wide = np.random.default_rng(i).integers(30, 50, (32, 96, 3), dtype=np.uint8)
        wide[8:24, 2:16] = 220
        Image.fromarray(wide).save(path.with_suffix('.png'))
    assert (load(folders(tmp_path/'data', save), size=32).train.images.max((1, 2, 3)) > 200).all()


REFUSED = {
    'depth': (tiff(lambda a: np.stack([a[..., 0]]*5), imagej=True, metadata=dict(axes='ZYX')), 'axes ZYX', 'Z Project'),
    'time': (tiff(lambda a: np.stack([a[..., 0]]*5), ome=True, metadata=dict(axes='TYX')), 'axes TYX', 'depth or time'),
    'Hounsfield': (tiff(lambda a: a[..., 0].astype(np.int16)*8 - 1000), 'int16', '65535'),
    'DICOM': (lambda p, i: p.write_bytes(bytes(128) + b'DICM'), '24 DICOM files', 'pydicom'),
    'NIfTI': (lambda p, i: p.with_suffix('.nii.gz').write_bytes(b''), '24 NIfTI files', 'nibabel'),
    'slides': (lambda p, i: p.with_suffix('.svs').write_bytes(b''), '24 whole-slide files', 'OpenSlide'),
    'half': (lambda p, i: p.with_suffix('.czi').write_bytes(b'') if i % 2 else saved('.png')(p, i),
             '12 microscope', 'Fiji')}


@pytest.mark.parametrize('kind', REFUSED)
def test_refused_with_what_to_do(kind, tmp_path, inspect):
    save, *parts = REFUSED[kind]
    code, said = inspect(folders(tmp_path/'data', save))
    assert code == 2 and all(part in said for part in parts), said
    assert len(said.strip().splitlines()) == 1


def test_every_broken_file_is_named_at_once(tmp_path, inspect):
    top = folders(tmp_path/'data', saved('.jpg'))
    broken = [top/'benign'/'3.jpg', top/'malignant'/'5.jpg']
    for f in broken: f.write_bytes(f.read_bytes()[:500])
    code, said = inspect(top)
    assert code == 2 and '2 of 24 images cannot be read' in said and all(str(f) in said for f in broken)


def test_all_the_same_picture(tmp_path, inspect):
    code, said = inspect(folders(tmp_path/'data', lambda p, i: saved('.png')(p, 0)))
    assert code == 2 and '24 images are copies of 1 picture' in said and 'group' not in said


def test_channel_names_of_a_tiff(tmp_path):
    said = dict(axes='CYX', Channel=dict(Name=['DAPI', 'actin', 'ER']))
    save = tiff(lambda a: np.moveaxis(a, 2, 0), ome=True, metadata=said, photometric='minisblack')
    top = folders(tmp_path/'data', save)
    assert load(top).train.channels == ('DAPI', 'actin', 'ER')


def test_npz_by_other_names(tmp_path, inspect):
    images = np.stack([photo(i) for i in range(30)]).astype(int)
    stages = np.array(['G1', 'S', 'M'])[np.arange(30) % 3]
    np.savez(tmp_path/'a.npz', x_train=images, y_train=stages)
    code, said = inspect(tmp_path/'a.npz')
    assert code == 0 and 'x_train as train_images' in said and 'int64' in said and '3 classes: G1, M, S' in said
    np.savez(tmp_path/'a.npz', images=images, labels=np.arange(30) % 3 + 1)
    code, said = inspect(tmp_path/'a.npz')
    assert code == 0 and 'numbering starts at 1' in said and 'classes: 1, 2, 3' in said
    np.savez(tmp_path/'a.npz', images=np.zeros((9, 28, 28, 28), np.uint8), labels=np.arange(9) % 3)
    code, said = inspect(tmp_path/'a.npz')
    assert code == 2 and 'volumes (N, D, H, W)' in said and 'slices' in said


def test_inspect_ends_with_the_next_command(tmp_path, inspect):
    code, said = inspect(folders(tmp_path/'my [cells]', saved('.png')))
    last = said.strip().splitlines()[-5:]
    assert code == 0 and last[0].startswith('understood: 24 images of 32x32 pixels, uint8, channels red, green, blue')
    asked = r"next: synaug run your-images -p 'source=.*my \[cells\]' .*-p labels_per_class=\d+ .*"
    assert re.fullmatch(asked, last[1])
    assert 'labels_per_class can be 1 to' in last[2] and 'about 60 seconds' in last[4]
    assert 'colour images' in last[3] and 'my [cells]' in last[3] and '-p pretrained=hub tries them' in last[3]


AFRESH = """
import resource, sys, time
from synaug.cli import main
sys.argv = ['synaug', 'inspect', sys.argv[1]]
try: main()
finally: print('seconds', time.process_time(), 'kilobytes', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_thirty_thousand_images(tmp_path, monkeypatch):
    "Processor time, which a busy machine does not lengthen much: under a minute of one core after the first decode"
    monkeypatch.setenv('SYNAUG_CACHE', str(tmp_path/'cache'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    base = [photo(i, (64, 64, 3)) for i in range(300)]
    rng = np.random.default_rng(0)
    def save(path, i):
        moved = np.roll(base[rng.integers(300)], tuple(rng.integers(0, 64, 2)), (0, 1)).astype(int)
        noisy = (moved + rng.integers(-20, 20, moved.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path.with_suffix('.jpg'))
    top = folders(tmp_path/'data', save, n=10_000, classes=('a', 'b', 'c'))
    for again in False, True:
        ran = subprocess.run([sys.executable, '-c', AFRESH, str(top)], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-2000:]
        _, seconds, _, kilobytes = ran.stdout.split()[-4:]
        assert 'understood: 30000 images' in ran.stdout and float(kilobytes) < 2e6
        if again: assert float(seconds) < 60
