//! Tests of systemd-boot's ESP: it must be as nixpkgs' installer would make it; and of input that cannot be made into
//! one.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::progress::Lines;
use crate::source::boot::merge::{Merge, Names};
use crate::source::tree::NodeKind;
use crate::store::{StoreDir, StoreRoot};

const TOPLEVEL: &str = "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-26.05";
const KERNEL: &str = "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-linux-6.12/bzImage";
const INITRD: &str = "/nix/store/2q43idch209zsdngl8yl79x0y79aajib-initrd-linux-6.12/initrd";
const STUB: &str = "/nix/store/3q43idch209zsdngl8yl79x0y79aajib-systemd-259/lib/systemd/boot/efi";
/// A store path that is a file itself.
const DTB: &str = "/nix/store/4q43idch209zsdngl8yl79x0y79aajib-board.dtb";

struct Host(TempDir);

impl Host {
    /// With a kernel, an initrd, systemd-boot for x86_64, and the bootspec of a system that has `change`d.
    fn new(change: impl FnOnce(&mut Value)) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for (path, contents) in [(KERNEL, "kernel"), (INITRD, "initrd"), (DTB, "tree")] {
            host.file(path, contents);
        }
        host.file(&format!("{STUB}/systemd-bootx64.efi"), "MZ boot");
        let mut document = document("NixOS (Linux 6.12)", TOPLEVEL);
        change(&mut document);
        host.file(&format!("{TOPLEVEL}/boot.json"), document.to_string());
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.0.path()).unwrap().join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), contents).unwrap();
    }

    /// Every file of the ESP with its text, every empty directory with none; and the warnings.
    fn lay_out(&self, wanted: &SystemdBoot) -> Result<(BTreeMap<String, String>, Vec<String>), PopulateError> {
        self.lay_out_with(wanted, Entries::OfSystems)
    }

    fn lay_out_with(
        &self,
        wanted: &SystemdBoot,
        entries: Entries,
    ) -> Result<(BTreeMap<String, String>, Vec<String>), PopulateError> {
        let root = StoreRoot::new(StoreDir::new("/nix/store").unwrap(), Some(self.path("")));
        let (scratch, lines) = (tempfile::tempdir().unwrap(), Lines::default());
        let scratch = fs::canonicalize(scratch.path()).unwrap();
        let scratch = ["boot", "esp"].map(|name| scratch.join(name));
        scratch.iter().for_each(|path| fs::create_dir(path).unwrap());
        let mut merge = Merge::new(Store(&root), Path::new("/boot"), Names::OfFat);
        let mut trees = Trees { boot: &mut merge, esp: None };
        add(&mut trees, wanted, (Path::new(TOPLEVEL), entries), [&scratch[0], &scratch[1]], &lines, &Cancel::new())?;
        let tree = merge.into_tree()?;
        let found = tree.nodes().skip(1).filter_map(|node| {
            let path = tree.path(node).display().to_string();
            match tree.kind(node) {
                NodeKind::Directory if tree.children(node).next().is_some() => None,
                NodeKind::Directory => Some((path + "/", String::new())),
                _ => {
                    let contents = fs::read(tree.source_path(node).unwrap()).unwrap();
                    Some((path, String::from_utf8_lossy(&contents).into_owned()))
                }
            }
        });
        Ok((found.collect(), lines.0.into_inner().unwrap()))
    }

    fn files(&self) -> BTreeMap<String, String> {
        self.lay_out(&wanted()).unwrap().0
    }

    fn error(&self) -> String {
        self.lay_out(&wanted()).unwrap_err().to_string()
    }
}

fn document(label: &str, toplevel: &str) -> Value {
    json!({
        "org.nixos.bootspec.v1": {
            "init": format!("{toplevel}/init"),
            "initrd": INITRD,
            "kernel": KERNEL,
            "kernelParams": ["console=ttyS0", "loglevel=4"],
            "label": label,
            "system": "x86_64-linux",
            "toplevel": toplevel,
        },
        "org.nixos.specialisation.v1": {},
        "org.nixos.systemd-boot": { "sortKey": "nixos" },
    })
}

fn wanted() -> SystemdBoot {
    SystemdBoot {
        efi_stub: STUB.into(),
        timeout: Some(5),
        editor: true,
        console_mode: "keep".into(),
        device_tree: None,
        distro_name: "NixOS".into(),
        boot_counting_tries: None,
        reboot_for_bitlocker: false,
        extra_files: vec![],
    }
}

/// The one entry's path and text.
fn entry_of(files: &BTreeMap<String, String>) -> (&str, &str) {
    let mut entries = files.iter().filter(|(path, _)| path.starts_with("loader/entries/nixos-"));
    let (path, text) = entries.next().unwrap();
    assert!(entries.next().is_none(), "{files:?}");
    (path, text)
}

#[test]
fn an_esp_is_what_the_installer_makes_of_it() {
    let files = Host::new(|_| {}).files();
    let (path, text) = entry_of(&files);
    assert_eq!(
        text,
        format!(
            "title NixOS\nversion Generation 1 NixOS (Linux 6.12), built on 1970-01-01\n\
             linux /EFI/nixos/1q43idch209zsdngl8yl79x0y79aajib-linux-6.12-bzImage.efi\n\
             initrd /EFI/nixos/2q43idch209zsdngl8yl79x0y79aajib-initrd-linux-6.12-initrd.efi\n\
             options init={TOPLEVEL}/init console=ttyS0 loglevel=4\nsort-key nixos"
        )
    );
    let id = format!("nixos-{}.conf", hex(&Sha256::digest(text)));
    assert_eq!(path, format!("loader/entries/{id}"));
    let expected = [
        ("EFI/BOOT/BOOTX64.EFI", "MZ boot"),
        ("EFI/Linux/", ""),
        ("EFI/nixos/.extra-files/", ""),
        ("EFI/nixos/1q43idch209zsdngl8yl79x0y79aajib-linux-6.12-bzImage.efi", "kernel"),
        ("EFI/nixos/2q43idch209zsdngl8yl79x0y79aajib-initrd-linux-6.12-initrd.efi", "initrd"),
        ("EFI/systemd/systemd-bootx64.efi", "MZ boot"),
        (path, text),
        ("loader/entries.srel", "type1\n"),
        ("loader/keys/", ""),
        ("loader/loader.conf", &format!("timeout 5\ndefault {id}\nconsole-mode keep\n")),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    assert_eq!(files, expected);
}

#[test]
fn specialisations_have_entries_of_their_own_and_the_system_is_the_default() {
    let files = Host::new(|document| {
        let mut other = self::document("other", "/nix/store/s");
        other["org.nixos.systemd-boot"]["sortKey"] = "z".into();
        document["org.nixos.specialisation.v1"] = json!({ "other": other });
    })
    .files();
    let texts: Vec<_> = files.iter().filter(|(path, _)| path.starts_with("loader/entries/nixos-")).collect();
    assert_eq!(texts.len(), 2);
    let (path, own) = texts.iter().find(|(_, text)| text.starts_with("title NixOS\n")).unwrap();
    let (_, other) = texts.iter().find(|(_, text)| text.starts_with("title NixOS (other)\n")).unwrap();
    assert!(other.contains("options init=/nix/store/s/init") && other.ends_with("sort-key z"), "{other}");
    assert!(own.ends_with("sort-key nixos"), "{own}");
    let id = path.trim_start_matches("loader/entries/");
    assert!(files["loader/loader.conf"].contains(&format!("default {id}\n")), "{files:?}");
}

#[test]
fn everything_that_can_be_asked_for_is_in_the_texts() {
    let host = Host::new(|document| {
        document["org.nixos.extra-initrd.v1"] = json!({ "paths": ["EFI/ucode.img"] });
    });
    host.file("/nix/store/memtest", "MZ memtest");
    let wanted = SystemdBoot {
        timeout: None,
        editor: false,
        console_mode: "max".into(),
        device_tree: Some(DTB.into()),
        distro_name: "Snow".into(),
        boot_counting_tries: Some(3),
        reboot_for_bitlocker: true,
        extra_files: vec![("efi/tools/memtest.efi".into(), "/nix/store/memtest".into())],
        ..wanted()
    };
    let files = host.lay_out(&wanted).unwrap().0;
    let (path, text) = entry_of(&files);
    assert!(text.starts_with("title Snow\n") && text.contains("initrd.efi\ninitrd /EFI/ucode.img\noptions "), "{text}");
    let device_tree = "EFI/nixos/4q43idch209zsdngl8yl79x0y79aajib-board.dtb.efi";
    assert!(text.ends_with(&format!("\ndevicetree /{device_tree}\nsort-key nixos")), "{text}");
    assert_eq!(files[device_tree], "tree");
    let id = format!("nixos-{}", hex(&Sha256::digest(text)));
    assert_eq!(path, format!("loader/entries/{id}+3.conf"));
    let conf = format!(
        "timeout menu-force\npreferred {id}.conf\ndefault nixos-*\neditor 0\nreboot-for-bitlocker yes\nconsole-mode max\n"
    );
    assert_eq!(files["loader/loader.conf"], conf);
    // FAT knows no difference between efi and EFI.
    assert_eq!(files["EFI/tools/memtest.efi"], "MZ memtest");
    assert_eq!(files["EFI/nixos/.extra-files/efi/tools/memtest.efi"], "");
}

#[test]
fn the_bootspecs_own_device_tree_is_preferred() {
    let host = Host::new(|document| document["org.nixos.systemd-boot"]["devicetree"] = DTB.into());
    let files = host.lay_out(&SystemdBoot { device_tree: Some("/nix/store/gone".into()), ..wanted() }).unwrap().0;
    assert!(entry_of(&files).1.contains("board.dtb.efi"), "{files:?}");
}

#[test]
fn links_are_named_by_what_they_lead_to() {
    let host = Host::new(|document| document["org.nixos.bootspec.v1"]["kernel"] = format!("{TOPLEVEL}/kernel").into());
    symlink(KERNEL, host.path(&format!("{TOPLEVEL}/kernel"))).unwrap();
    assert!(host.files().contains_key("EFI/nixos/1q43idch209zsdngl8yl79x0y79aajib-linux-6.12-bzImage.efi"));
}

/// As for the installer, which makes the file anew each time; what it appends cannot be in an image.
#[test]
fn an_initrd_with_secrets_has_the_installers_name_and_a_warning() {
    let host = Host::new(|document| {
        document["org.nixos.bootspec.v1"]["initrdSecrets"] = "/nix/store/secrets/bin/append".into()
    });
    host.file("/nix/store/secrets/bin/append", "#!");
    let (files, warnings) = host.lay_out(&wanted()).unwrap();
    let names = "EFI/nixos/2q43idch209zsdngl8yl79x0y79aajib-initrd-linux-6.12-initrd.efi\nEFI/nixos/secrets-append.efi";
    let path = format!("EFI/nixos/{}-initrd.efi", hex(&Sha256::digest(names)));
    assert_eq!(files[&path], "initrd");
    assert!(entry_of(&files).1.contains(&format!("\ninitrd /{path}\n")));
    assert!(matches!(warnings.as_slice(), [line] if line.contains("boot.initrd.secrets")), "{warnings:?}");
}

#[test]
fn unified_kernel_images_of_the_toplevel_are_taken() {
    let host = Host::new(|_| {});
    let image = pe::program(&[(".linux", b"kernel")]);
    host.file(&format!("{TOPLEVEL}/nixos.efi"), &image);
    assert_eq!(host.files()["EFI/Linux/nixos.efi"], String::from_utf8_lossy(&image));
    host.file(&format!("{TOPLEVEL}/notes.efi"), "MZ");
    assert!(host.error().contains("notes.efi: is not a unified kernel image"), "{}", host.error());
}

#[test]
fn each_machine_has_its_own_loader() {
    for (system, names) in [
        ("aarch64-linux", Some(("systemd-bootaa64.efi", "BOOTAA64.EFI"))),
        ("i686-linux", Some(("systemd-bootia32.efi", "BOOTIA32.EFI"))),
        ("armv7l-linux", Some(("systemd-bootarm.efi", "BOOTARM.EFI"))),
        ("riscv64-linux", Some(("systemd-bootriscv64.efi", "BOOTRISCV64.EFI"))),
        ("loongarch64-linux", Some(("systemd-bootloongarch64.efi", "BOOTLOONGARCH64.EFI"))),
        ("mips-linux", None),
    ] {
        let host = Host::new(|document| document["org.nixos.bootspec.v1"]["system"] = system.into());
        let Some((name, removable)) = names else {
            assert!(host.error().contains("no systemd-boot for mips-linux"), "{}", host.error());
            continue;
        };
        let error = host.error();
        assert!(error.contains(&format!("has no {name}, only systemd-bootx64.efi")), "{error}");
        host.file(&format!("{STUB}/{name}"), "MZ");
        let files = host.files();
        assert!(files.contains_key(&format!("EFI/systemd/{name}")), "{files:?}");
        assert!(files.contains_key(&format!("EFI/BOOT/{removable}")), "{files:?}");
    }
}

#[test]
fn what_makes_no_entry_is_named() {
    let error = |change: &dyn Fn(&mut Value)| Host::new(change).error();
    let bootspec = |key: &'static str, value: Value| {
        error(&move |document| document["org.nixos.bootspec.v1"][key] = value.clone())
    };
    assert!(bootspec("initrd", Value::Null).contains("it names no initrd"));
    assert!(bootspec("kernel", Value::Null).contains("boot.json: "));
    assert!(bootspec("label", "a\nb".into()).contains(r#"label, "a\nb", holds a line feed"#));
    let error_of_parameters = bootspec("kernelParams", json!(["quiet", "a\rinit=/bin/sh"]));
    assert!(
        error_of_parameters.contains(r#"boot.json: kernelParams[1], "a\rinit=/bin/sh", holds a carriage return"#),
        "{error_of_parameters}"
    );
    assert!(bootspec("kernel", "/nix/store/gone/bzImage".into()).contains("/gone"));
    let outside = tempfile::NamedTempFile::new().unwrap();
    assert!(bootspec("initrd", outside.path().to_str().unwrap().into()).contains("outside the store"));
    assert!(error(&|document| *document = json!([])).contains("it must be a bootspec of version 1"));
    assert!(
        error(&|document| document["org.nixos.systemd-boot"]["sortKey"] = 5.into())
            .contains("org.nixos.systemd-boot: ")
    );
    let host = Host::new(|_| {});
    fs::remove_file(host.path(&format!("{TOPLEVEL}/boot.json"))).unwrap();
    assert!(host.error().contains("set boot.bootspec.enable = true"), "{}", host.error());
}

/// The unified kernel image is what boots.
#[test]
fn no_entries_beside_a_unified_kernel_image() {
    let host = Host::new(|document| {
        document["org.nixos.specialisation.v1"] = json!({ "calm": self::document("calm", "/nix/store/calm") });
        document["org.nixos.bootspec.v1"]["initrdSecrets"] = json!("/nix/store/append");
    });
    let wanted = SystemdBoot { boot_counting_tries: Some(3), ..wanted() };
    let (files, warnings) = host.lay_out_with(&wanted, Entries::None).unwrap();
    let paths: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "EFI/BOOT/BOOTX64.EFI",
            "EFI/Linux/",
            "EFI/nixos/.extra-files/",
            "EFI/systemd/systemd-bootx64.efi",
            "loader/entries.srel",
            "loader/entries/",
            "loader/keys/",
            "loader/loader.conf",
        ]
    );
    assert_eq!(files["loader/loader.conf"], "timeout 5\nconsole-mode keep\n");
    assert_eq!(files["loader/entries.srel"], "type1\n");
    assert!(warnings.len() == 2 && warnings[1].contains("specialisation calm has no entry"), "{warnings:?}");
}
