//! What `inspect` says would boot is what a boot loader says that it boots.

use serde_json::Value;

use crate::console::watch_and_type;
use crate::extlinux::with_extlinux;
use crate::guest::{Arch, Root, closure};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::build;
use crate::support::image::{Built, run, sane_image};

/// What `inspect --json` lists of a boot loader, in the order of the menu.
fn inspected(built: &Built, loader: &str) -> Vec<Value> {
    let said = run(sane_image().args(["inspect", "--json"]).arg(&built.image)).expect_success();
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let entries = report["boot"]["entries"].as_array().unwrap().iter();
    entries.filter(|entry| entry["loader"] == loader).cloned().collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// U-Boot's `sysboot`, at its prompt, shows the same menu, chooses the same entry, and loads the same files.
#[test]
fn u_boot_agrees_on_the_default() {
    u_boot_agrees("u-boot-default", |entry| entry["default"] == true, |_| "setenv pxe_label_override".to_owned());
}

/// The same of a specialisation, which is asked for by its label.
#[test]
fn u_boot_agrees_on_a_specialisation() {
    let label = |entry: &Value| format!("setenv pxe_label_override {}", text(&entry["id"]));
    u_boot_agrees("u-boot-specialisation", |entry| entry["default"] == false, label);
}

/// `before` is typed before U-Boot is to boot the entry that is `wanted`.
fn u_boot_agrees(row: &str, wanted: impl Fn(&Value) -> bool, before: impl Fn(&Value) -> String) {
    let machine = Machine::new(Arch::Aarch64, Firmware::UBoot);
    let (true, Some(closure)) = (machine.need(), closure(machine.arch, Root::Ext4)) else { return };
    let (closure, built) = build(with_extlinux(closure));
    let entries = inspected(&built, "extlinux");
    let entry = entries.iter().find(|entry| wanted(entry)).unwrap_or_else(|| panic!("none of {entries:?} is wanted"));
    let lines = [
        ("Hit any key to stop autoboot", ""),
        ("\n=> ", &before(entry)),
        ("\n=> ", "virtio scan"),
        ("\n=> ", "sysboot virtio 0:1 any ${scriptaddr} /extlinux/extlinux.conf"),
    ];
    let run = watch_and_type(row, &mut machine.command(&built.image, Writes::Forgotten), &lines);
    run.expect_good(closure.paths.len());

    let (_, said) = run.console().split_once("sysboot virtio").unwrap();
    let (menu, choice) = said.split_once("Enter choice: ").expect("U-Boot shows a menu");
    let shown: Vec<_> = menu.lines().filter_map(|line| Some(line.split_once(":\t")?.1)).collect();
    assert_eq!(shown, entries.iter().map(|entry| text(&entry["title"])).collect::<Vec<_>>());
    let chosen = choice.lines().next().unwrap().split_once(":\t").expect("U-Boot chooses").1;
    assert_eq!(chosen, text(&entry["title"]));
    let found = |file: &Value| format!("Retrieving file: /extlinux/../{}\n", text(&file["found"]["path"]));
    let init = entry["options"].as_str().unwrap().split_whitespace().find_map(|word| word.strip_prefix("init="));
    // That the machine went on with what was chosen shows in stage 1 alone; U-Boot says the rest.
    let loaded = [
        found(&entry["kernel"]),
        found(&entry["initrds"][0]),
        format!("append: {}\n", text(&entry["options"])),
        format!("stage 1: {}\n", init.unwrap()),
    ];
    run.expect_said(&loaded.each_ref().map(String::as_str));
}
