"""Sliders over a background run.

``explorer`` ties the rooms together; each of them works, and is tested, without the others::

    background                      a run with pause, single step, stop
    controls, fields,
    weight_controls, layout         settings <-> widgets, and where they stand
    canvas                          what is shown of a run: picture, curves, messages, kept pictures
    settings                        what they may be; checked whole before one is turned
    pictures, networks              what there is to choose from
    targets                         what was chosen at the last reset, and its loss
    recording, saving               losses and film; files
    frontend, widgets               Colab and cells; safe HTML, sealing and closing ipywidgets
"""
