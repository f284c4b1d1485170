"The figure of README, drawn from the committed quick study - its images, its answer, its rows: `python docs/figure.py`"
import json
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

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


def sheet(study):
    "The contact sheet of a committed study, real images beside synthetic ones, as an image"
    return Image.open(BytesIO(b64decode(next(pictures(ROOT/'nbs'/'results'/f'{study}.ipynb'))))).convert('RGB')


def found(ledger, metric='macro_ap'):
    "The answer of a ledger without a grid"
    rows = comparable(ledger)
    rows = rows[rows.metric == metric]
    return answer(rows, verdicts(rows), metric)


def drawn(figure, dpi=200):
    "A figure as an image"
    png = BytesIO()
    figure.savefig(png, dpi=dpi, bbox_inches='tight')
    return Image.open(png)


def summary(study='quick', metric='macro_ap'):
    "Images, answer and differences of a committed study in one figure"
    ledger = comparable(pd.read_parquet(ROOT/'nbs'/'results'/f'{study}.parquet'))
    judged, said = verdicts(ledger[ledger.metric == metric]), found(ledger, metric)
    figure = plt.figure(figsize=(11, 4.6), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    places = [left.subplots(), *right.subplots(2, 1, height_ratios=(1, 3))]
    for ax in places: ax.axis('off')
    places[0].imshow(sheet(study), interpolation='lanczos')
    ink, ground = COLOURS[said.kind]
    box = dict(boxstyle='round,pad=.6', fc=ground, ec=ink)
    text = fill(f'{said.word}: {said.sentence}', 78)
    places[1].text(0, .5, text, va='center', fontsize=9.5, color='#1b1f24', bbox=box, transform=places[1].transAxes)
    places[2].imshow(drawn(main_differences(judged, metric)), interpolation='lanczos')
    return figure


if __name__ == '__main__': summary().savefig(ROOT/'docs'/'images'/'quick.png', dpi=110)
