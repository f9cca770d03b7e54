"""The diagram of the deployment, in the text and for draw.io, shows resources that the stack has."""

import re
from xml.etree import ElementTree

from tests.support.documents import section
from tests.support.server import ROOT

MODULES = ROOT / 'terraform' / 'modules'
LABEL = re.compile(r'([a-z-]+): (aws_\w+)\.(\w+)')
Edges = set[tuple[str, str, str]]


def drawn() -> tuple[dict[str, str], Edges]:
    """Return the labels of draw.io's boxes by their ids, and the arrows between labels."""
    cells = ElementTree.parse(ROOT / 'docs' / 'diagrams' / 'deployment.drawio').findall('.//mxCell')
    boxes = {cell.attrib['id']: cell.attrib['value'] for cell in cells if cell.get('vertex')}
    arrows = {(boxes[cell.attrib['source']], cell.attrib['value'], boxes[cell.attrib['target']]) for cell in cells
              if cell.get('edge')}
    return boxes, arrows


def written() -> tuple[dict[str, str], Edges]:
    """Return the same of the diagram in the text."""
    text = section('docs/architecture.md', 'The deployment')
    boxes = dict(re.findall(r'^    (\w+)\["(.+)"\]$', text, re.MULTILINE))
    arrows = {(boxes[source], label.strip('"'), boxes[target]) for source, label, target in
              re.findall(r'^    (\w+) -- (.+) --> (\w+)$', text, re.MULTILINE)}
    return boxes, arrows


def test_both_diagrams_have_the_same_boxes_and_arrows() -> None:
    (boxes, arrows), (others, other_arrows) = drawn(), written()
    assert sorted(boxes.values()) == sorted(others.values())
    assert len(arrows) > 8 and arrows == other_arrows


def test_each_box_is_a_resource_of_its_module() -> None:
    matches = {label: LABEL.fullmatch(label) for label in drawn()[0].values()}
    assert [label for label, match in matches.items() if not match] == ['Visitors']
    for match in filter(None, matches.values()):
        module, kind, name = match.groups()
        sources = ''.join(path.read_text(encoding='utf-8') for path in (MODULES / module).glob('*.tf'))
        assert f'resource "{kind}" "{name}"' in sources, match[0]


def test_every_module_is_in_the_diagram() -> None:
    shown = {match[1] for label in drawn()[0].values() if (match := LABEL.fullmatch(label))}
    assert shown == {path.name for path in MODULES.iterdir()}
