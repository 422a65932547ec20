"""Sliders over a background run.

``explorer`` ties the rooms together; each of them works, and is tested, without the others::

    background                      a run with pause, single step, stop
    controls, weight_controls       settings <-> widgets
    canvas                          what is shown of a run: picture, curves, messages, kept pictures
    pictures, networks              what there is to choose from
    recording, saving               losses and film; files
    frontend, widgets               Colab and cells; setting and closing ipywidgets
"""
