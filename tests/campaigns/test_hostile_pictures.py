"""Picture files that are broken or evil: an image, or an error of ours that names the file."""

import pytest
from hostile_files import hostile_file
from oracle import attempt, check_image

from nst_helpers import load_image


@pytest.mark.campaign(600, 2_400)
def test_a_hostile_picture_is_read_or_refused_by_name(case, seed, tmp_path, capfd):
    file = hostile_file(case, seed)
    path = tmp_path / f"{file.name}.{file.ending}"
    path.write_bytes(file.data)
    size = (None, 32, 1)[case % 3]
    result = attempt(lambda: load_image(path, size), path.name)
    if not isinstance(result, Exception):
        check_image(result)
    assert capfd.readouterr() == ("", "")
    assert [*tmp_path.iterdir()] == [path]
