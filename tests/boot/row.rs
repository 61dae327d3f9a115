//! A row of the matrix: an image and a machine that boots it.

use std::path::Path;

use crate::console::{Run, watch};
use crate::guest::Arch;
use crate::machine::{Firmware, Machine, Writes};
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, run, sane_image};
use crate::support::tool::{run as run_tool, tool, with_suffix};

/// Builds the image of a closure, and has a machine boot it to a good verdict.
pub(crate) fn boot(row: &str, machine: Machine, closure: ClosureBuilder) -> Option<(Closure, Built)> {
    if !machine.need() {
        return None;
    }
    let (closure, built) = build(closure);
    judge(row, machine, &closure, &built.image);
    Some((closure, built))
}

/// Has a machine boot this image of a closure to a good verdict.
pub(crate) fn judge(row: &str, machine: Machine, closure: &Closure, image: &Path) -> Run {
    let run = watch(row, &mut machine.command(image, Writes::Forgotten));
    run.expect_good(closure.paths.len());
    // Not one of its specialisations.
    run.expect_said(&[&format!("stage 1: {}/init\n", closure.toplevel)]);
    run
}

/// Builds the image of a closure, which `verify` finds right, and has a PC with each of the firmwares boot it. Their consoles
/// say `said`, too.
pub(crate) fn boot_by(firmwares: &[Firmware], row: &str, closure: ClosureBuilder, said: &[&str]) -> (Closure, Built) {
    let (closure, built) = build(closure);
    run(sane_image().arg("verify").arg(&built.image)).expect_success();
    for firmware in firmwares {
        let machine = Machine::new(Arch::X86_64, *firmware);
        if machine.need() {
            judge(&format!("{row}-{firmware:?}"), machine, &closure, &built.image).expect_said(said);
        }
    }
    (closure, built)
}

/// Builds the image of a closure.
pub(crate) fn build(closure: ClosureBuilder) -> (Closure, Built) {
    build_as(closure, &[])
}

/// The same, with more arguments.
pub(crate) fn build_as(closure: ClosureBuilder, arguments: &[&str]) -> (Closure, Built) {
    let closure = closure.write();
    let built = Built::new(&closure, arguments);
    (closure, built)
}

/// Runs a tool of mtools on the ESP of an image.
pub(crate) fn mtool(name: &str, built: &Built, arguments: &[&str]) -> Vec<u8> {
    let drive = with_suffix(&built.image, &format!("@@{}", built.boot().offset));
    run_tool(tool(name).arg("-i").arg(drive).args(arguments))
}
