"The figure of README, drawn from the committed quick study - its images, its answer, its rows: `python docs/figure.py`"
import json
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from synaug.arms import is_control, parse
from synaug.plots.study import main_differences
from synaug.study.ledger import comparable
from synaug.verdicts.answer import answer
from synaug.verdicts.statistics import verdicts

ROOT = Path(__file__).resolve().parent.parent
COLOURS = dict(yes=('#0f5323', '#e3f4e8'), no=('#8c1020', '#fdeaea'), same=('#0b3c5d', '#e6f0f8'))
COLOURS |= dict(open=('#6b4400', '#fdf2d8'), nothing=('#57606a', '#f3f5f7'))


def pictures(notebook):
    "The PNG images in the outputs of the cells that show images, of older reports too, first to last"
    for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
        if not re.search(r"report\.(first_screen|images)\(\)|first_runs\('samples", ''.join(cell['source'])): continue
        for output in cell['outputs']:
            data = output.get('data', {})
            if 'image/png' in data: yield ''.join(data['image/png'])
            yield from re.findall(r'data:image/png;base64,([A-Za-z0-9+/=]+)', ''.join(data.get('text/html', '')))


def html(study):
    "All HTML in the outputs of a committed study"
    cells = json.loads((ROOT/'nbs'/'results'/f'{study}.ipynb').read_text(encoding='utf-8'))['cells']
    outputs = (output for cell in cells for output in cell.get('outputs', []))
    return ''.join(''.join(output.get('data', {}).get('text/html', '')) for output in outputs)


def sheet(study, rows=None):
    "The contact sheet of a committed study, real images beside synthetic ones, as an image; the first `rows` classes"
    found = Image.open(BytesIO(b64decode(next(pictures(ROOT/'nbs'/'results'/f'{study}.ipynb'))))).convert('RGB')
    if rows is None: return found
    printed = np.asarray(found).min((1, 2)) < 250
    ends = np.flatnonzero(printed[:-1] & ~printed[1:])          # of the line of headings, then of every row of images
    return found.crop((0, 0, found.width, ends[rows] + 1))


def found(ledger, metric='macro_ap'):
    "The answer of a ledger without a grid"
    rows = comparable(ledger)
    rows = rows[rows.metric == metric]
    return answer(rows, verdicts(rows), metric)


def drawn(figure, dpi=250):
    "A figure as an image"
    png = BytesIO()
    figure.savefig(png, dpi=dpi, bbox_inches='tight')
    return Image.open(png)


def in_short(judged):
    "The verdicts on recipes with synthetic images, and on more real images"
    arms = map(parse, judged.arm)
    return judged[[arm.name == 'oracle' or arm.needs_synthetic and not is_control(arm.name) for arm in arms]]


def summary(study='quick', metric='macro_ap'):
    "Images of four classes, answer and main differences of a committed study in one figure, readable at 800 pixels"
    ledger = comparable(pd.read_parquet(ROOT/'nbs'/'results'/f'{study}.parquet'))
    judged, said = verdicts(ledger[ledger.metric == metric]), found(ledger, metric)
    images, differences = sheet(study, rows=4), drawn(main_differences(in_short(judged), metric))
    figure, width = plt.figure(figsize=(8.2, 4.4), layout='constrained'), .42
    upper, lower = figure.subfigures(2, 1, height_ratios=(width*images.height/images.width,
                                                          differences.height/differences.width))
    places = [*upper.subplots(1, 2, width_ratios=(width, 1-width)), lower.subplots()]
    for ax in places: ax.axis('off')
    for ax, image in zip((places[0], places[2]), (images, differences)): ax.imshow(image, interpolation='lanczos')
    ink, ground = COLOURS[said.kind]
    box = dict(boxstyle='round,pad=.8', fc=ground, ec=ink)
    text = fill(f'{said.word}: {said.sentence}', 38)
    where = dict(va='center', linespacing=1.4, transform=places[1].transAxes)
    places[1].text(.06, .5, text, fontsize=12, color='#1b1f24', bbox=box, **where)
    return figure


if __name__ == '__main__': summary().savefig(ROOT/'docs'/'images'/'quick.png', dpi=200)
