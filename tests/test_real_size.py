"""The competition's set of the Human Protein Atlas at its real size, 31,072 images of four files each: read, killed on
the way, read on. The files are made up; SIZE=3000 pytest tests/test_real_size.py --slow: fewer"""
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from synaug.data.files import cache_folder
from synaug.data.inspection import first_look

SIZE = int(os.environ.get('SIZE', 31072))
LOAD = """
import resource, time
from synaug.data.sources import load
data = load({source!r}, size=64, split='paper', cache={cache!r}, check=False, min_images=0)
print(sum(map(len, data.splits().values())), data.train.images.shape[1:], time.process_time(),
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6)
"""


def texture(rng):
    "512 x 512 pixels as bright and as hard to compress as those of cells"
    light, fine = (gaussian_filter(rng.normal(size=(512, 512)), width) for width in (24, 1.5))
    light = np.clip(light/light.std(), 0, None)*60*(1 + .4*fine/fine.std())
    return rng.poisson(np.clip(light, 0, 250)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def atlas(tmp_path_factory):
    "A folder of the competition: every blue file differs, the others are links to a few"
    folder, rng = tmp_path_factory.mktemp('atlas'), np.random.default_rng(0)
    (folder/'train').mkdir()
    textures, lines = [texture(rng) for _ in range(24)], ['Id,Target']
    for k, pixels in enumerate(textures): Image.fromarray(pixels).save(folder/f'{k}.png')
    for i in range(SIZE):
        for j, colour in enumerate(('red', 'green', 'yellow')):
            os.link(folder/f'{(7*i + 5*j) % 24}.png', folder/'train'/f'{i}_{colour}.png')
        pixels = textures[i % 24].copy()
        pixels[:64, :64] = rng.integers(0, 256, (64, 64))
        Image.fromarray(pixels).save(folder/'train'/f'{i}_blue.png', compress_level=1)
        lines.append(f'{i},{" ".join(map(str, rng.choice(28, rng.integers(1, 4), replace=False)))}')
    (folder/'train.csv').write_text('\n'.join(lines))
    return folder


def loading(atlas, cache):
    code = LOAD.format(source=str(atlas), cache=str(cache))
    return subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_whole_atlas_is_read_also_after_a_kill(atlas, tmp_path):
    cache = tmp_path/'decoded'
    killed = loading(atlas, cache)
    wanted, deadline = SIZE*64*64*4/10, time.monotonic() + 1800
    while not any(part.stat().st_size > wanted for part in cache_folder(cache).glob('*.part')):
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()
        time.sleep(.2)
    killed.kill()
    killed.communicate()
    said, log = loading(atlas, cache).communicate()
    begun = int(re.findall(r'(\d+)/\d+ \[', log)[0])
    assert .1*SIZE <= begun < SIZE, log[-500:]                      # goes on, does not begin anew
    n, *shape, seconds, gigabytes = re.findall(r'[\d.]+', said)
    assert [n, *shape] == [str(SIZE), '64', '64', '4'] and float(gigabytes) < 2.5, said
    again, log = loading(atlas, cache).communicate()
    *_, seconds_again, _ = re.findall(r'[\d.]+', again)
    assert not re.search(r'\d+/\d+ \[', log) and float(seconds_again) < float(seconds), (again, said, log[-500:])
    print(f'{SIZE - begun} images decoded in {seconds} processor seconds, read again in {seconds_again}')


@pytest.mark.slow
def test_a_first_look_is_at_a_small_size(atlas):
    if SIZE < 2000: pytest.skip('small enough to be looked at as it is')
    side, why = first_look(atlas)
    assert side == 64 and why.startswith(f'{SIZE:,} images of 512x512 pixels are ')
