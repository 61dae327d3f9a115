//! Images in forms that a machine boots as they are.

use crate::guest::{Arch, Root, closure};
use crate::machine::{Firmware, Form, Machine};
use crate::row::{build_as, judge};
use crate::systemd_boot::with_systemd_boot;

fn boots(form: Form) {
    let machine = Machine { form, ..Machine::new(Arch::X86_64, Firmware::Uefi) };
    let closure = closure(machine.arch, Root::Ext4).and_then(|closure| with_systemd_boot(closure, machine.arch));
    let Some(closure) = closure.filter(|_| machine.need()) else { return };
    let name = form.name();
    let (closure, built) = build_as(closure, &["--format", name]);
    let file = built.image.with_extension(name);
    assert!(!built.image.exists(), "a raw image is there, too");
    judge(&format!("systemd-boot-{name}"), machine, &closure, &file);
}

#[test]
fn uefi_boots_qcow2() {
    boots(Form::Qcow2);
}

#[test]
fn uefi_boots_vmdk() {
    boots(Form::Vmdk);
}
