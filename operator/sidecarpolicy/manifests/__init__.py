"""Manifests as text: read with the position of everything in them, changed by splices, never printed anew.

What is not changed stays byte for byte: comments, quotes, indentation, line ends, a missing final line break, block
scalars, other documents, kinds nobody knows. Values are what kubectl reads; what it would refuse is refused with the
line. Nothing here knows policies or sidecars, does input or output, or looks at a schema.

Reading::

    file = parse(text, "app.yaml")              # File; raises BadInput: .problems, sentences with file and line
    for document in file.documents:             # empty ones left out; .value is what kubectl reads
        for found in document.objects():        # Object: the document itself, or each item of a List
            found.kind, found.api_version       # cheap: no value is made for these
            found.value                         # the whole object as plain dicts and lists
            found.place                         # "app.yaml, document 2, item 3"
            path = ("spec", "template", "spec", "containers", 0, "image")   # paths are tuples of keys and indexes
            found.position(path)                # Position: .line, .column (from 1), .start, .end (indexes in file.text)
            found.where(path)                   # "app.yaml, line 12: spec.template.spec.containers[0].image"
            found.at(path)                      # the same path from the document's root, for the calls below
    document.position(path)                 # of the value

Positions of what is not there are those of the nearest thing around it.

Changing, by paths of the document *as it was read*, in any order::

    edits = Edits(file)
    edits.set(document, path, value)            # replace a value, or add a key at the end of its mapping
    edits.insert(document, path, value)         # an item before the one at path; index len(list) appends
    edits.remove(document, path)                # a key with its value, or an item; leaves {} or [] if it was the last
    edits.become(document, path, before, after) # the fewest of these that turn one value into the other
    edits.fill(...); edits.clear(...)           # set and remove for what is to be undone later, see `edits`
    new_text = edits.text()                     # raises Unspliceable: .line, .why (an alias, an anchor)

A place is changed once: no change inside of what another change replaces or removes.
"""

from sidecarpolicy.manifests.composing import without_collector
from sidecarpolicy.manifests.edits import Edits
from sidecarpolicy.manifests.errors import BadInput, Unspliceable
from sidecarpolicy.manifests.files import BYTE_ORDER_MARK, Document, File, Object, Place, parse
from sidecarpolicy.manifests.places import Path, Position, text_of_path
from sidecarpolicy.manifests.writing import block, flow

__all__ = [
    "BYTE_ORDER_MARK",
    "BadInput",
    "Document",
    "Edits",
    "File",
    "Object",
    "Path",
    "Place",
    "Position",
    "Unspliceable",
    "block",
    "flow",
    "parse",
    "text_of_path",
    "without_collector",
]
