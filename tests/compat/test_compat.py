"""The list of patches, and how they are put in place."""

import types

import fairseq_ki  # noqa: F401  (applies them)
from fairseq_ki import compat
from fairseq_ki.compat.patching import replace, show_module_with
from fairseq_ki.compat.warnings_of_the_host import silence_warnings


def test_every_patch_has_a_name_a_reason_and_one_place():
    names = [patch.name for patch in compat.PATCHES]
    assert len(set(names)) == len(names)
    assert all(len(patch.reason) > 20 for patch in compat.PATCHES)
    assert {name for name, _ in compat.active_patches()} <= set(names)


def test_a_second_application_changes_nothing(monkeypatch):
    silence_warnings()  # pytest puts its own filters in the place of ours
    before = compat.active_patches()
    compat.apply()
    assert compat.active_patches() == before
    monkeypatch.setattr(compat, "_active", {})
    compat.apply()  # as if the package were imported under a second name
    assert compat.active_patches() == []


def test_replace_wraps_once_and_keeps_static_methods():
    class Host:
        @staticmethod
        def copy(x):
            return x

        def method(self):
            return "m"

    def twice(original):
        return lambda *args: original(*args) * 2

    def louder(original):
        return lambda *args: original(*args) + "!"

    assert replace(Host, "copy", twice)
    assert not replace(Host, "copy", twice)
    assert Host.copy("a") == Host().copy("a") == "aa"
    assert replace(Host, "method", twice)
    assert replace(Host, "method", louder)  # another patch of the same place
    assert not replace(Host, "method", twice)
    assert Host().method() == "mm!"


def test_a_module_is_shown_with_other_names_to_one_file_alone():
    host, library = types.ModuleType("host"), types.ModuleType("library")
    library.load, library.other = (lambda: "theirs"), 1
    host.library = library
    assert show_module_with(host, "library", load=lambda: "ours")
    assert not show_module_with(host, "library", load=lambda: "again")
    assert (host.library.load(), host.library.other, library.load()) == ("ours", 1, "theirs")
    library.other = 2
    assert host.library.other == 2
