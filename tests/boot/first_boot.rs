//! The first boot with a real Nix: the module's scripts under power cuts, and where they cannot do all that they are for.
//!
//! A power cut is a SIGKILL of QEMU: what the guest has not written to its disk by then is lost. `/etc` is read-only in all of
//! the rows.

use std::fs::File;
use std::path::PathBuf;
use std::thread;

use crate::console::watch;
use crate::growth::judge_growth;
use crate::guest::Root;
use crate::nix_guest::{Boot, Store, System, system};
use crate::row::build;
use crate::support::closure::Closure;
use crate::support::image::Built;
use crate::support::tool::{run, tool};

/// How much larger the disk is, in bytes.
const MORE: u64 = 1 << 30;

/// An image, and how to boot copies of it.
struct Bench {
    root: Root,
    closure: Closure,
    built: Built,
    boot: Boot,
}

impl Bench {
    /// `None` where its parts are not here, which has been told.
    fn new(root: Root) -> Option<Self> {
        let System { closure, boot } = system(root)?;
        let (closure, built) = build(closure);
        Some(Self { root, closure, built, boot })
    }

    /// Boots a copy of the image on a larger disk; `rows` are at once, as far as machines may be.
    fn run(&self, rows: &[fn(&Disk<'_>)]) {
        thread::scope(|scope| {
            let threads: Vec<_> =
                rows.iter().enumerate().map(|(n, row)| scope.spawn(move || row(&self.disk(n)))).collect();
            let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
            assert_eq!(failed, 0, "rows that failed; see above");
        });
    }

    fn disk(&self, number: usize) -> Disk<'_> {
        let path = self.built.scratch().join(format!("disk-{number}"));
        run(tool("cp").arg("--sparse=always").arg(&self.built.image).arg(&path));
        let disk = File::options().write(true).open(&path).unwrap();
        disk.set_len(disk.metadata().unwrap().len() + MORE).unwrap();
        Disk { bench: self, path }
    }
}

struct Disk<'a> {
    bench: &'a Bench,
    path: PathBuf,
}

impl Disk<'_> {
    fn watch(&self, row: &str, store: Store, words: &str) -> crate::console::Run {
        let row = format!("first-boot-{}-{row}", self.bench.root.name());
        watch(&row, &mut self.bench.boot.command(&self.path, store, words))
    }

    /// A boot after which all is right, with all store paths but `gone`.
    fn good(&self, row: &str, words: &str, gone: usize) {
        self.watch(row, Store::Writable, words).expect_good(self.bench.closure.paths.len() - gone);
    }

    fn judge(&self) {
        judge_growth(self.bench.root, &self.path, self.bench.built.nix(), MORE);
    }

    /// A boot that a power cut ends, and then one that has to put all right.
    fn survives(&self, row: &str, cut: &str) {
        self.watch(&format!("{row}-cut"), Store::Writable, &format!("cut={cut}")).expect_cut();
        self.good(row, "", 0);
        self.judge();
    }
}

#[test]
fn first_boot_on_ext4() {
    let Some(bench) = Bench::new(Root::Ext4) else { return };
    bench.run(&[
        |disk| disk.survives("table-written", "after:sfdisk:--no-tell-kernel"),
        |disk| disk.survives("resizing", "during:resize2fs:/dev/vda2"),
        |disk| disk.survives("loading", "during:nix-store:--load-db"),
        |disk| disk.survives("profile-set", "after:nix-env:--set"),
        collects_garbage,
        hasty_script_is_caught,
    ]);
}

#[test]
fn first_boot_on_btrfs() {
    let Some(bench) = Bench::new(Root::Btrfs) else { return };
    bench.run(&[
        |disk| disk.survives("kernel-told", "after:partx:--update"),
        |disk| disk.survives("loaded", "after:nix-store:--load-db"),
        forgets_what_is_in_memory,
        leaves_what_is_read_only,
    ]);
}

/// After a power cut at the end, garbage is collected, and another boot finds it so.
fn collects_garbage(disk: &Disk<'_>) {
    disk.watch("list-removed-cut", Store::Writable, "cut=after:rm:/nix-path-registration").expect_cut();
    disk.good("collecting", "then=collect", 1);
    disk.good("collected", "", 1);
    disk.judge();
}

/// A database in memory learns of the paths at each boot, but not of those that are gone.
fn forgets_what_is_in_memory(disk: &Disk<'_>) {
    disk.good("memory-collecting", "memory then=collect", 1);
    disk.good("memory", "memory", 1);
    disk.judge();
}

/// That is no failure. Nothing is written, not even the partition table.
fn leaves_what_is_read_only(disk: &Disk<'_>) {
    let sum = || run(tool("sha256sum").arg(&disk.path));
    let before = sum();
    let run = disk.watch("read-only", Store::ReadOnly, "read-only");
    run.expect_good(0);
    run.expect_said(&["/nix does not grow, for its filesystem is read-only\n", "Nix is not told of the store paths"]);
    assert!(sum() == before, "the disk was written to");
}

/// The judge sees what a power cut leaves behind of a script with its steps in another order.
fn hasty_script_is_caught(disk: &Disk<'_>) {
    let script = format!("register={}", disk.bench.boot.hasty_register);
    disk.watch("hasty-cut", Store::Writable, &format!("{script} cut=before:nix-store:--load-db")).expect_cut();
    let reason = "FAULT a store path that is there is not valid\n";
    disk.watch("hasty", Store::Writable, &script).expect_bad(&[reason]);
}
