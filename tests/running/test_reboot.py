"""A reboot proves that a run is over, and only where nothing else can have run it."""

from __future__ import annotations

import pytest

from chronos_cli.running import reboot
from chronos_cli.running.liveness import LivenessProbe, liveness
from chronos_cli.running.lock import RunLock
from chronos_cli.running.lock_place import LockPlace

OWN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def owner(tmp_path, monkeypatch):
    """The owner of a run of an earlier boot of this machine, its home on this machine's own disk."""
    monkeypatch.setattr(reboot, "bare_machine", lambda: OWN)
    monkeypatch.setattr(reboot, "on_fixed_disk", lambda _: True)
    places = LockPlace(tmp_path, lambda: "store")
    lock = RunLock.acquire(places, "job", "run")
    found = lock.owner() | {"bare": OWN}
    lock.release(keep=True)
    if not all(found["machine"].values()):
        pytest.skip("this system does not say which machine it is")
    found["machine"] = found["machine"] | {"boot": "11111111-2222-3333-4444-555555555555", "pid_namespace": "pid:[1]"}
    return places, found


def test_a_run_of_an_earlier_boot_of_this_machine_is_over(owner):
    """It does not wait for its lease, and never reads as one whose job was not begun."""
    places, found = owner
    assert liveness(places, found, "job", "run") is LivenessProbe.DEAD


@pytest.mark.parametrize(
    "other",
    [
        {"bare": ""},
        {"bare": "f" * 32},
        {"bare": None},
        {"machine": None},
        {"machine": {"boot": "x", "host": "another"}},
    ],
    ids=str,
)
def test_another_machine_or_a_container_proves_nothing(owner, other):
    """A machine id or host that is not ours, or a run in a container, leaves the run to its lease."""
    places, found = owner
    assert liveness(places, found | other, "job", "run") is LivenessProbe.UNSEEN


def test_a_disk_that_may_be_anywhere_proves_nothing(owner, monkeypatch):
    """Nor does a reboot of this machine, where the home lies on what others may have."""
    places, found = owner
    monkeypatch.setattr(reboot, "on_fixed_disk", lambda _: False)
    assert liveness(places, found, "job", "run") is LivenessProbe.UNSEEN


def test_in_a_container_this_machine_is_nobody(owner, monkeypatch):
    """Where the reader is in a container, another boot id may be another machine's."""
    places, found = owner
    monkeypatch.setattr(reboot, "bare_machine", lambda: "")
    assert liveness(places, found | {"bare": ""}, "job", "run") is LivenessProbe.UNSEEN


def test_only_disks_of_this_machine_are_fixed(tmp_path, monkeypatch):
    """A plain disk is, its partition, and what is made of such; a removable or networked one is not, nor is memory."""
    devices, links = tmp_path / "devices", tmp_path / "links"
    links.mkdir()

    def disk(name, removable="0", below=()):
        place = devices / name
        place.mkdir(parents=True)
        (place / "removable").write_text(f"{removable}\n")
        for lower in below:
            (place / "slaves").mkdir(exist_ok=True)
            (place / "slaves" / lower.name).symlink_to(lower)
        return place

    plain, usb, card = disk("pci0/block/sda"), disk("pci0/usb1/block/sdb"), disk("pci0/block/sdc", removable="1")
    iscsi = disk("platform/session1/block/sdd")
    partition = plain / "sda1"
    partition.mkdir()
    (partition / "partition").write_text("1\n")
    mapped, mixed = disk("virtual/block/dm-0", below=[partition]), disk("virtual/block/dm-1", below=[plain, usb])
    memory = disk("virtual/block/brd0")
    for place, fixed in [(plain, True), (partition, True), (mapped, True), (usb, False), (card, False),
                         (iscsi, False), (mixed, False), (memory, False), (devices / "none", False)]:  # fmt: skip
        assert reboot._is_fixed(str(place), 8) is fixed, place
