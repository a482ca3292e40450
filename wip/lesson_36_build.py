import nbformat, re
from nbformat.v4 import new_notebook, new_code_cell, new_markdown_cell
cells = []
def md(id, text): cells.append(new_markdown_cell(text.strip("\n"), id=id))
def code(id, text, *tags, hidden=False):
    c = new_code_cell(text.strip("\n"), id=id)
    if tags: c.metadata["tags"] = list(tags)
    if hidden: c.metadata["jupyter"] = {"source_hidden": True}
    cells.append(c)
exec(open("/tmp/wt-scratch-36/cells.py").read())
nb = new_notebook(cells=cells)
nb.metadata = {
 "aigc_lessons": {"after": ["33"], "checkpoints": ["world", "assistant"], "data": [], "memory_mb": 1000, "promise": PROMISE, "reading_minutes": 60, "running_seconds": 35, "title": "Instruction tuning"},
 "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
 "language_info": {"codemirror_mode": {"name": "ipython", "version": 3}, "file_extension": ".py", "mimetype": "text/x-python", "name": "python", "nbconvert_exporter": "python", "pygments_lexer": "ipython3"},
}
nb.nbformat, nb.nbformat_minor = 4, 5
nbformat.write(nb, "/tmp/wt/36/course/36_instruction_tuning.ipynb")
