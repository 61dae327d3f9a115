//! Updates by systemd-sysupdate: a machine boots the newest version, and the one before where that comes to nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::console::{Run, watch};
use crate::guest::{Arch, INITRD, KERNEL, SYSTEM};
use crate::initrd::initrd_with;
use crate::machine::{Firmware, Machine, Writes};
use crate::row::mtool;
use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, build_command, run};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run as run_tool, sysupdate};
use crate::support::tree::Entry;
use crate::systemd_boot::with_systemd_boot;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const KERNELS: &str = "::/EFI/Linux";

/// A system of this version, or `None` where its parts are not here, which has been told.
fn system(version: &'static str, parameters: &'static str) -> Option<ClosureBuilder> {
    let arch = Arch::X86_64;
    let (kernel, modules, busybox) = arch.parts()?;
    let initrd = initrd_with("slot", &fs::read(busybox).unwrap(), &modules, "");
    let Ok(stub) = fs::read(STUB) else {
        skip(Lack::other("no linuxx64.efi.stub (systemd-boot-efi)"));
        return None;
    };
    let release = format!("ID=host\nPRETTY_NAME=\"Host {version}\"\nVERSION_ID={version}\n");
    let closure = ClosureBuilder::new()
        .path(KERNEL, Entry::dir([(arch.kernel_file(), Entry::file(fs::read(kernel).unwrap()))]))
        .path(INITRD, Entry::dir([("initrd", Entry::file(initrd))]))
        .path("systemd-stub", Entry::dir([("stub", Entry::file(stub))]))
        .path("release", Entry::dir([("os-release", Entry::file(release))]))
        .path("version-of-the-store", Entry::dir([("text", Entry::file(format!("store {version}")))]));
    let closure = with_systemd_boot(toplevel(closure), arch)?;
    let of = |name: &str, file: &str| format!("{}/{file}", closure.store_path(name));
    let (stub, os_release) = (of("systemd-stub", "stub"), of("release", "os-release"));
    let (kernel, initrd) = (of(KERNEL, arch.kernel_file()), of(INITRD, "initrd"));
    let cmdline = format!("console={} panic=-1 loglevel=4 version={version} {parameters}", arch.console());
    Some(closure.spec(move |spec| {
        spec["fileSystems"]["/"] = json!({ "fsType": "tmpfs" });
        let device = format!("/dev/disk/by-partlabel/host_{version}");
        spec["fileSystems"]["/nix/store"] = json!({ "device": device, "fsType": "ext4", "options": ["ro"] });
        spec["bootPartSize"] = json!(128 << 20);
        spec["updates"] = json!({ "name": "host", "version": version, "slotSize": 96 << 20 });
        spec["uki"] = json!({
            "stub": stub, "kernel": kernel, "initrd": initrd, "cmdline": cmdline.trim_end(), "osRelease": os_release,
            "uname": "6.1", "fileName": format!("host_{version}.efi"), "tries": null,
        });
    }))
}

/// Adds what systemd-boot's files are made for.
fn toplevel(closure: ClosureBuilder) -> ClosureBuilder {
    let kernel = format!("{}/bzImage", closure.store_path(KERNEL));
    let initrd = format!("{}/initrd", closure.store_path(INITRD));
    let tree = |path: &str| {
        let system = json!({
            "init": format!("{path}/init"), "initrd": initrd, "kernel": kernel, "kernelParams": [], "label": "NixOS host",
            "system": "x86_64-linux", "toplevel": path,
        });
        let boot = json!({ "org.nixos.bootspec.v1": system, "org.nixos.specialisation.v1": {} });
        Entry::dir([("boot.json", Entry::file(boot.to_string())), ("nixos-version", Entry::file("26.05.host"))])
    };
    closure.derived(SYSTEM, tree, &[KERNEL, INITRD]).toplevel(SYSTEM)
}

/// A disk and what a machine with it mounts as its ESP.
struct Host {
    built: Built,
    kernels: PathBuf,
}

impl Host {
    fn new(built: Built) -> Self {
        let host = Self { kernels: built.scratch().join("kernels"), built };
        fs::create_dir(&host.kernels).unwrap();
        host
    }

    /// Updates it to the version that is made of this closure.
    fn update(&self, version: &str, closure: ClosureBuilder) {
        let closure = closure.write();
        let out = self.built.scratch().join(version);
        run(&mut build_command(&closure.spec_path(), closure.root(), &out, &["--split=only"])).expect_success();
        self.take_kernels();
        run_tool(&mut sysupdate(&self.transfers(&out)).unwrap());
        self.put_kernels();
    }

    fn transfers(&self, source: &Path) -> PathBuf {
        let directory = self.built.scratch().join("sysupdate.d");
        fs::create_dir_all(&directory).unwrap();
        let from =
            |pattern: &str| format!("[Source]\nType=regular-file\nPath={}\nMatchPattern={pattern}\n", source.display());
        let store = format!(
            "[Target]\nType=partition\nPath={}\nMatchPattern=host_@v\nMatchPartitionType=linux-generic\nInstancesMax=2\n",
            self.built.image.display()
        );
        let kernel = format!(
            "[Target]\nType=regular-file\nPath={}\nMatchPattern=host_@v+@l-@d.efi host_@v+@l.efi host_@v.efi\n\
             TriesLeft=3\nTriesDone=0\nInstancesMax=2\n",
            self.kernels.display()
        );
        fs::write(directory.join("60-store.transfer"), from("host_@v.store.raw.zst") + &store).unwrap();
        fs::write(directory.join("70-kernel.transfer"), from("host_@v.efi") + &kernel).unwrap();
        directory
    }

    /// The names of the kernels on its ESP.
    fn names(&self) -> Vec<String> {
        let listed = mtool("mdir", &self.built, &["-b", KERNELS]);
        let listed = String::from_utf8(listed).unwrap();
        let mut names: Vec<_> = listed.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    fn take_kernels(&self) {
        for file in fs::read_dir(&self.kernels).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let to = self.kernels.to_str().unwrap();
        self.names().iter().for_each(|name| drop(mtool("mcopy", &self.built, &[&format!("{KERNELS}/{name}"), to])));
    }

    fn put_kernels(&self) {
        self.names().iter().for_each(|name| drop(mtool("mdel", &self.built, &[&format!("{KERNELS}/{name}")])));
        for file in fs::read_dir(&self.kernels).unwrap() {
            mtool("mcopy", &self.built, &[file.unwrap().path().to_str().unwrap(), KERNELS]);
        }
    }

    /// Gives a kernel another name; mren would write a short one in capitals.
    fn rename(&self, from: &str, to: &str) {
        self.take_kernels();
        fs::rename(self.kernels.join(from), self.kernels.join(to)).unwrap();
        self.put_kernels();
    }

    fn boot(&self, row: &str, machine: Machine) -> Run {
        watch(row, &mut machine.command(&self.built.image, Writes::Kept))
    }
}

#[test]
fn the_newest_version_that_works_boots() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    if sysupdate(Path::new("/")).is_none()
        || !machine.need()
        || !["mdir", "mcopy", "mdel"].iter().all(|tool| need(tool))
    {
        return;
    }
    let (Some(one), Some(two), Some(three)) = (system("1", ""), system("2", ""), system("3", "broken")) else { return };
    let host = Host::new(Built::new(&one.write(), &[]));
    let run = host.boot("updates-1", machine);
    run.expect_good(1);
    run.expect_said(&["version 1: store 1 in vda2\n"]);

    host.update("2", two);
    assert_eq!(host.names(), ["host_1.efi", "host_2+3-0.efi"]);
    let run = host.boot("updates-2", machine);
    run.expect_good(2);
    run.expect_said(&["version 2: store 2 in vda3\n"]);
    assert_eq!(host.names(), ["host_1.efi", "host_2+2-1.efi"]);
    // As systemd-bless-boot does once the system is up.
    host.rename("host_2+2-1.efi", "host_2.efi");

    host.update("3", three);
    assert_eq!(host.names(), ["host_2.efi", "host_3+3-0.efi"]);
    for left in ["2-1", "1-2", "0-3"] {
        host.boot("updates-3", machine).expect_bad(&["VERDICT failed: stage 1: version 3 is broken\n"]);
        assert_eq!(host.names(), ["host_2.efi".to_owned(), format!("host_3+{left}.efi")]);
    }
    let run = host.boot("updates-back", machine);
    run.expect_good(2);
    run.expect_said(&["version 2: store 2 in vda3\n"]);
}
