//! Tests of boot trees from populateCmd and extraBootFiles.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::merge::BLOCK;
use super::*;
use crate::progress::Cancelled;
use crate::progress::Lines;
use crate::progress::Silent;
use crate::source::command::CommandError;
use crate::source::tree::{NodeIndex, NodeKind};
use crate::store::StoreDir;

const TOPLEVEL: &str = "/nix/store/00000000000000000000000000000000-nixos-system";

/// `/boot` is the ESP itself.
static AT_ESP: LazyLock<Location> = LazyLock::new(|| Location::Boot(PathBuf::new()));

/// A host directory with a store root in it.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(host.path("root/nix/store")).unwrap();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.0.path()).unwrap().join(path)
    }

    fn file(&self, path: &str, contents: &str) -> &Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), contents).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        symlink(target, self.path(path)).unwrap();
        self
    }

    /// With the store root. Extras are paths from this directory, or in the store if they start with a slash.
    fn boot_tree(&self, populate_cmd: Option<&str>, extras: &[&str]) -> Result<BootFiles, PopulateError> {
        let extras: Vec<_> = extras.iter().map(|extra| self.path(extra)).collect();
        let root = store_root(Some(self.path("root")));
        let request = BootRequest { populate_cmd, extra_boot_files: &extras, ..request_for_nothing(&root) };
        boot_files(&request, &Silent, &Cancel::new())
    }

    fn listing(&self, populate_cmd: Option<&str>, extras: &[&str]) -> Vec<String> {
        listing(&self.boot_tree(populate_cmd, extras).unwrap())
    }

    fn error(&self, extras: &[&str]) -> PopulateError {
        self.boot_tree(None, extras).unwrap_err()
    }
}

fn store_root(root: Option<PathBuf>) -> StoreRoot {
    StoreRoot::new(StoreDir::new("/nix/store").unwrap(), root)
}

/// Paths in the tree's order: directories with a slash, files with their contents.
fn listing(boot: &BootFiles) -> Vec<String> {
    let tree = boot.esp.as_ref().unwrap();
    let describe = |node: NodeIndex| match tree.kind(node) {
        NodeKind::Directory => format!("{}/", tree.path(node).display()),
        NodeKind::File { size } => {
            let contents = fs::read_to_string(tree.source_path(node).unwrap()).unwrap();
            assert_eq!(contents.len() as u64, size);
            format!("{}={}", tree.path(node).display(), contents.trim_end())
        }
        NodeKind::Symlink(_) => panic!("a link in a boot tree"),
    };
    tree.nodes().skip(1).map(describe).collect()
}

#[test]
fn no_request_makes_an_empty_tree() {
    assert!(Host::new().boot_tree(None, &[]).unwrap().esp.unwrap().is_empty());
    assert!(Host::new().boot_tree(Some("true"), &[]).unwrap().esp.unwrap().is_empty());
}

#[test]
fn the_command_gets_options_and_root() {
    let host = Host::new();
    let command = "mkdir b; f() { echo \"$*\" > b/args; echo \"$SANE_IMAGE_STORE_ROOT\" > root; }\nf -g 3\n\n";
    let found = host.listing(Some(command), &[]);
    let root = host.path("root").display().to_string();
    assert_eq!(found, ["b/", &format!("b/args=-g 3 -c {TOPLEVEL} -d ."), &format!("root={root}")]);
}

#[test]
fn odd_toplevels_are_one_word() {
    let root = store_root(None);
    let request = request_for("f() { echo \"$2\" > file; }; f", &root);
    let request = BootRequest { toplevel: Path::new("/a b'$c"), ..request };
    assert_eq!(listing(&boot_files(&request, &Silent, &Cancel::new()).unwrap()), ["file=/a b'$c"]);
}

#[test]
fn names_are_in_order_of_bytes() {
    let host = Host::new();
    for name in ["x/a/z", "x/a-b/z", "x/a.c", "x/B", "x/a0", "x/.hidden", "x/\u{e9}"] {
        host.file(name, "");
    }
    assert_eq!(host.listing(None, &["x"]), [".hidden=", "B=", "a/", "a/z=", "a-b/", "a-b/z=", "a.c=", "a0=", "é="]);
}

#[test]
fn extra_files_are_merged() {
    let host = Host::new();
    host.file("one/d/a", "1").file("one/.dot", "2").file("two/d/b", "3").file("two/d/e/f", "4");
    let found = host.listing(Some("f() { mkdir d; echo 0 > d/0; }; f"), &["one", "two"]);
    assert_eq!(found, [".dot=2", "d/", "d/0=0", "d/a=1", "d/b=3", "d/e/", "d/e/f=4"]);
}

#[test]
fn no_image_ships_a_random_seed() {
    let host = Host::new();
    host.file("one/Loader/random-seed", "x").file("two/loader/random-seed/x", "");
    let error = host.error(&["one"]);
    assert!(
        matches!(&error, PopulateError::RandomSeed { path, .. } if path == Path::new("/boot/Loader/random-seed")),
        "{error}"
    );
    assert_eq!(host.listing(None, &["two"]).len(), 3);
}

#[test]
fn long_command_lines_are_warned_of() {
    let host = Host::new();
    let [fits, may_fit, too_long] = [511, 512, 1024].map(|len| "x".repeat(len));
    let text = format!("LABEL a\n  APPEND {fits}\nLABEL b\n\tappend \t{too_long} \nLABEL c\n  APPEND {may_fit}\n");
    host.file("u-boot/extlinux/extlinux.conf", &text);
    let [fits, too_long] = [2047, 2048].map(|len| "x".repeat(len));
    host.file("entries/loader/entries/a.conf", &format!("options {fits}"));
    host.file("entries/loader/entries/b.conf", &format!("title b\noptions {too_long}"));
    let warnings = Lines::default();
    let extras = ["u-boot", "entries"].map(|name| host.path(name));
    let root = store_root(None);
    let request = BootRequest { extra_boot_files: &extras, ..request_for_nothing(&root) };
    boot_files(&request, &warnings, &Cancel::new()).unwrap();
    let told = warnings.0.into_inner().unwrap();
    assert_eq!(
        told,
        [
            "warning: /boot/extlinux/extlinux.conf, line 4: the command line has 1024 bytes, and U-Boot with the usual \
             CONFIG_SYS_CBSIZE takes 1023; shorten boot.kernelParams",
            "warning: /boot/extlinux/extlinux.conf, line 6: the command line has 512 bytes, and U-Boot with a \
             CONFIG_SYS_CBSIZE of 512 takes 511; shorten boot.kernelParams",
            "warning: /boot/loader/entries/b.conf, line 2: the command line has 2048 bytes, and Linux takes 2047; shorten \
             boot.kernelParams",
        ]
    );
}

#[test]
fn equal_files_agree_and_others_conflict() {
    let host = Host::new();
    let long = "x".repeat(3 * BLOCK + 5);
    host.file("one/d/a", &long).file("two/d/a", &long).file("other/d/a", &long.replace("xx", "xy"));
    host.file("three/d/a", "short").file("file/d", "").file("dir/d/a/b", "");
    assert_eq!(host.listing(None, &["one", "two", "one"]).len(), 2);
    for (extras, name) in [(["one", "other"], "other"), (["two", "three"], "three")] {
        let error = host.error(&extras);
        assert!(matches!(&error, PopulateError::Conflict { path, .. } if path == Path::new("/boot/d/a")), "{error}");
        assert!(error.to_string().contains(&format!("{name}/d/a")), "{error}");
    }
    for extras in [["one", "file"], ["file", "one"], ["one", "dir"], ["dir", "one"]] {
        let error = host.error(&extras);
        assert!(matches!(error, PopulateError::FileAndDirectory { .. }), "{error}");
    }
}

#[test]
fn store_paths_are_found_below_the_root() {
    let host = Host::new();
    host.file("root/nix/store/extra/f", "1").link("root/nix/store/link", "/nix/store/extra");
    for extra in ["/nix/store/extra", "/nix/store/link"] {
        assert_eq!(host.listing(None, &[extra]), ["f=1"]);
    }
}

#[test]
fn links_to_files_are_followed() {
    let host = Host::new();
    host.file("root/nix/store/kernel/bzImage", "kernel").file("outside", "out").file("x/d/file", "here");
    host.link("root/nix/store/top/kernel", "/nix/store/kernel/bzImage").link("root/nix/store/sw", "top");
    host.link("x/d/near", "file").link("x/up", "d/../d/near").link("x/out", "../outside");
    host.link("x/store", "/nix/store/sw/kernel");
    let absolute = host.path("outside");
    host.link("x/absolute", absolute.to_str().unwrap());
    let wanted = ["absolute=out", "d/", "d/file=here", "d/near=here", "out=out", "store=kernel", "up=here"];
    assert_eq!(host.listing(None, &["x"]), wanted);
    let boot = host.boot_tree(None, &["x"]).unwrap();
    let store = boot.esp.as_ref().unwrap().find([OsStr::new("store")]).unwrap();
    assert_eq!(boot.esp.unwrap().source_path(store), Some(host.path("root/nix/store/kernel/bzImage")));
}

#[test]
fn links_to_anything_else_are_errors() {
    let host = Host::new();
    fs::create_dir_all(host.path("x/d")).unwrap();
    let try_link = |target: &str| {
        fs::remove_file(host.path("x/l")).ok();
        host.link("x/l", target);
        host.error(&["x"])
    };
    assert!(matches!(try_link("nowhere"), PopulateError::DanglingLink { .. }));
    assert!(matches!(try_link("/nix/store/nowhere"), PopulateError::DanglingLink { target, .. }
        if target == host.path("root/nix/store/nowhere")));
    assert!(matches!(try_link("d"), PopulateError::LinkToDirectory { .. }));
    assert!(matches!(try_link("."), PopulateError::LinkToDirectory { .. }));
    assert!(matches!(try_link("l"), PopulateError::LinkLoop { .. }));
    assert!(matches!(try_link("l/x"), PopulateError::LinkLoop { .. }));
    assert!(matches!(try_link("/dev/null"), PopulateError::SpecialFile { kind: "character device", .. }));
    host.file("x/f", "");
    assert!(matches!(try_link("f/x"), PopulateError::DanglingLink { .. }));
    let message = try_link("nowhere").to_string();
    assert!(message.contains("x/l: leads to ") && message.contains("x/nowhere, which does not exist"), "{message}");
}

#[test]
fn special_files_are_errors() {
    let host = Host::new();
    fs::create_dir(host.path("x")).unwrap();
    let socket = UnixListener::bind(host.path("x/s")).unwrap();
    assert!(matches!(host.error(&["x"]), PopulateError::SpecialFile { kind: "socket", .. }));
    drop(socket);
    fs::remove_file(host.path("x/s")).unwrap();
    let error = host.boot_tree(Some("f() { mkfifo p; }; f"), &["x"]).unwrap_err();
    assert!(matches!(error, PopulateError::SpecialFile { kind: "named pipe", .. }), "{error}");
}

#[test]
fn extra_boot_files_must_be_directories() {
    let host = Host::new();
    host.file("file", "").link("circle", "circle").link("dangling", "nowhere");
    assert!(matches!(host.error(&["file"]), PopulateError::NotADirectory { .. }));
    assert!(matches!(host.error(&["circle"]), PopulateError::LinkLoop { .. }));
    for missing in ["nowhere", "dangling"] {
        let error = host.error(&[missing]);
        assert!(error.to_string().contains("nowhere: cannot be read"), "{error}");
    }
}

#[test]
fn the_host_does_not_show() {
    let [host, other] = [Host::new(), Host::new()];
    host.file("x/a", "1").file("x/b", "2");
    other.file("x/b", "2").file("x/a", "1");
    fs::set_permissions(other.path("x/a"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::hard_link(other.path("x/a"), other.path("y")).unwrap();
    let trees = [&host, &other].map(|host| host.boot_tree(None, &["x"]).unwrap().esp.unwrap());
    let [kinds, others] = trees.each_ref().map(|tree| tree.nodes().map(|n| tree.kind(n)).collect::<Vec<_>>());
    assert_eq!(kinds, others);
}

fn request_for<'a>(populate_cmd: &'a str, store_root: &'a StoreRoot) -> BootRequest<'a> {
    BootRequest { populate_cmd: Some(populate_cmd), ..request_for_nothing(store_root) }
}

fn request_for_nothing(store_root: &StoreRoot) -> BootRequest<'_> {
    BootRequest {
        populate_cmd: None,
        systemd_boot: None,
        grub: None,
        limine: None,
        uki: None,
        has_updates: false,
        verified: None,
        toplevel: Path::new(TOPLEVEL),
        extra_boot_files: &[],
        own: &[],
        own_on_xbootldr: &[],
        esp: Some(Path::new("/boot")),
        xbootldr: None,
        boot: Some(&AT_ESP),
        store_root,
    }
}

#[test]
fn a_failing_command_is_told() {
    let lines = Lines::default();
    let root = store_root(None);
    let request = request_for("f() { pwd; echo why >&2; exit 9; }; f", &root);
    let error = boot_files(&request, &lines, &Cancel::new()).unwrap_err();
    assert!(matches!(&error, PopulateError::Command(CommandError::Exit { code: 9 })));
    assert!(error.to_string().starts_with("populateCmd: failed with exit status 9"), "{error}");
    let lines = lines.0.into_inner().unwrap();
    assert_eq!(lines[1], "why");
    assert!(!Path::new(&lines[0]).exists(), "the temporary directory is gone");
}

#[test]
fn the_temporary_directory_lives_as_long_as_the_tree() {
    let boot =
        boot_files(&request_for("f() { echo 1 > file; }; f", &store_root(None)), &Silent, &Cancel::new()).unwrap();
    let tree = boot.esp.as_ref().unwrap();
    let file = tree.source_path(tree.find([OsStr::new("file")]).unwrap()).unwrap();
    assert!(file.exists());
    drop(boot);
    assert!(!file.exists());
}

#[test]
fn a_sleeping_command_can_be_cancelled() {
    let cancel = Cancel::new();
    let started = Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            cancel.request(2);
        });
        boot_files(&request_for("f() { sleep 100; }; f", &store_root(None)), &Silent, &cancel).unwrap_err()
    });
    assert!(matches!(error, PopulateError::Cancelled(Cancelled { signal: 2 })), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// The whole of it: sections in the file, a place for the root hash, and the program that firmware starts. Where updates
/// come, it is listed among them as well, with the same root hash.
#[test]
fn a_unified_kernel_image_has_a_place_for_the_root_hash() {
    let host = Host::new();
    let stub = crate::uki::sample::stub(0x20b, 0x400, &[(".text", "code"), (".sbat", "sbat,1,x\n")]);
    fs::write(host.path("stub"), stub).unwrap();
    for (name, contents) in [("linux", "a kernel"), ("initrd", "an initrd"), ("os-release", "ID=nixos\n")] {
        host.file(name, contents);
    }
    let wanted = Uki {
        stub: host.path("stub"),
        kernel: host.path("linux"),
        initrd: host.path("initrd"),
        cmdline: "init=/x quiet".into(),
        os_release: host.path("os-release"),
        uname: Some("6.18".into()),
        device_tree: None,
        file_name: "nixos_1.efi".into(),
        tries: Some(3),
    };
    let root = store_root(None);
    let request = |wanted, verified, has_updates| {
        let nothing = request_for_nothing(&root);
        BootRequest { uki: Some(wanted), has_updates, verified, toplevel: Path::new("/toplevel"), ..nothing }
    };
    let files = |hash, has_updates| boot_files(&request(&wanted, hash, has_updates), &Silent, &Cancel::new()).unwrap();
    let made = files(Some(Tree::Usr), true);
    let uki = made.uki.as_ref().unwrap();
    let digits = "0123456789abcdef".repeat(4);
    uki.set_root_hash(&digits).unwrap();
    assert!(uki.set_root_hash("0").is_err());
    let bytes = fs::read(&uki.path).unwrap();
    assert_eq!(bytes.len() as u64, uki.size);
    let count = |text: &str| bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
    assert_eq!(count(&format!("init=/x quiet usrhash={digits}\0")), 1);
    assert_eq!([count("a kernel\0"), count("an initrd\0"), count("ID=nixos\n\0"), count("uki,1,UKI,")], [1; 4]);
    let tree = made.esp.as_ref().unwrap();
    for path in [["EFI", "Linux", "nixos_1+3.efi"], ["EFI", "BOOT", "BOOTX64.EFI"]] {
        let node = tree.find(path.map(OsStr::new)).unwrap();
        assert_eq!(tree.source_path(node).unwrap(), uki.path);
        assert_eq!(tree.kind(node), NodeKind::File { size: uki.size });
    }
    let without = files(None, false);
    let alone = without.esp.as_ref().unwrap();
    assert!(alone.find(["EFI", "Linux"].map(OsStr::new)).is_none());
    assert!(alone.find(["EFI", "BOOT", "BOOTX64.EFI"].map(OsStr::new)).is_some());
    let without = without.uki.as_ref().unwrap();
    assert!(without.hash.is_none() && without.set_root_hash(&digits).is_err());
    // The same inputs give the same bytes.
    assert_eq!(fs::read(&without.path).unwrap(), fs::read(&files(None, false).uki.as_ref().unwrap().path).unwrap());

    let has_hash = Uki { cmdline: "usrhash=1".into(), ..wanted.clone() };
    let error = boot_files(&request(&has_hash, Some(Tree::Usr), false), &Silent, &Cancel::new()).unwrap_err();
    assert_eq!(error.to_string(), "uki: cmdline has usrhash= already, which the program adds; remove it");
    let no_stub = Uki { stub: host.path("linux"), ..wanted.clone() };
    let error = boot_files(&request(&no_stub, None, false), &Silent, &Cancel::new()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("uki: stub {}: is no program for UEFI", no_stub.stub.display())), "{error}");
}
