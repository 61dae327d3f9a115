//! Stores that were used: what Nix knows of them is in its database, made here by Nix itself or by Python's SQLite.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::foreign::mkfs_ext4;
use crate::support::image::{Built, Run, run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tool::{self, need, need_root, tool};
use crate::support::tree::{Entry, Host};

const DATABASE: &str = "nix/var/nix/db/db.sqlite";

fn closure() -> Closure {
    ClosureBuilder::new()
        .path("data-1.0", Entry::dir([("file", Entry::file("contents")), ("link", Entry::symlink("file"))]))
        .referring("file", Entry::file("only a file"), &["data-1.0"])
        .write()
}

/// What a machine has after its first boot, or `None` where no Nix is here.
fn booted(closure: &Closure) -> Option<TempDir> {
    if !need("nix-store") || !need_root() {
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("nix/store");
    fs::create_dir_all(&store).unwrap();
    Host::CANONICAL.write_all(&store, closure.paths.iter().map(|path| (path.base_name(), &path.tree))).unwrap();
    let registration = closure.on_host(&closure.info).join("registration");
    oracle::nix_store(root.path(), &registration).expect_clean();
    Some(root)
}

fn look(command: &str, image: &Path, arguments: &[&str]) -> Run {
    run(sane_image().arg(command).arg(image).args(arguments))
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap()
}

#[track_caller]
fn assert_right(image: &Path, paths: u64) -> Value {
    let said = json(&look("verify", image, &["--json"]).expect_success());
    assert_eq!((&said["right"], &said["stores"][0]["paths"]), (&true.into(), &paths.into()), "{said:#}");
    said
}

#[track_caller]
fn assert_fault(image: &Path, parts: &[&str]) {
    let run = look("verify", image, &[]).expect_failure(1);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{}", run.stdout);
    assert!(parts.iter().all(|part| lines[0].contains(part)), "{parts:?}: {}", run.stdout);
}

fn python(script: &str, database: &Path) {
    tool::run(tool("python3").args(["-c", script]).arg(database));
}

/// Runs `statements` on the database and dies before anything is written back.
fn cut_off(database: &Path, statements: &str) {
    let script = format!(
        "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
         c.execute('PRAGMA wal_autocheckpoint = 0'); c.execute('PRAGMA cache_size = 1')\n\
         for s in '''{statements}'''.split(';'): c.execute(s)\nos._exit(0)"
    );
    python(&script, database);
}

#[test]
fn the_database_of_a_machine_that_booted_is_read() {
    let closure = closure();
    let count = closure.paths.len() as u64;
    let Some(root) = booted(&closure) else { return };
    let Some(image) = mkfs_ext4(root.path(), &[]) else { return };
    let image = image.path();
    let said = assert_right(image, count);
    assert_eq!(said["stores"][0]["registeredIn"], Value::from(vec![DATABASE]));
    let text = look("inspect", image, &[]).expect_success().stdout;
    assert!(text.contains(&format!("  {DATABASE} in partition 1 knows all of them\n")), "{text}");
    let report = json(&look("inspect", image, &["--json"]).expect_success());
    let store = &report["partitions"][0]["filesystem"]["store"];
    assert_eq!((&store["registration"], &store["database"]["paths"]), (&Value::Null, &count.into()));
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
    // A closure is what the disk holds: nothing was added.
    let info = closure.on_host(&closure.info);
    look("verify", image, &["--registration", info.to_str().unwrap()]).expect_success();
    look("diff", image, &[info.to_str().unwrap()]).expect_success();
}

/// The first boot as NixOS does it, on an image of ours that the kernel has mounted.
#[test]
fn an_image_of_ours_stays_right_when_it_is_used() {
    let closure = closure();
    let count = closure.paths.len() as u64;
    if !need("nix-store") {
        return;
    }
    let built = Built::new(&closure, &[]);
    let mount = |change: &dyn Fn(&Path)| {
        let mount = Mount::new(&built.image, built.nix(), "ext4", Access::ReadWrite)?;
        change(mount.path());
        Some(())
    };
    let boot = |root: &Path| {
        let registration = root.join("nix-path-registration");
        oracle::nix_store(root, &registration).expect_clean();
    };
    if mount(&boot).is_none() {
        return;
    }
    // Cut off before the registration went: both say the same.
    let both = assert_right(&built.image, count);
    assert_eq!(both["stores"][0]["registeredIn"], Value::from(vec![DATABASE, "nix-path-registration"]));
    let store = PathBuf::from("nix/store");
    let garbage = format!("{}arbage", closure.paths[0].base_name().replace("data-1.0", "g"));
    let used = |root: &Path| {
        fs::remove_file(root.join("nix-path-registration")).unwrap();
        fs::create_dir(root.join(&store).join(".links")).ok();
        for name in [format!("{garbage}.lock"), "tmp-12-0".to_owned()] {
            fs::write(root.join(&store).join(name), "").unwrap();
        }
    };
    mount(&used).unwrap();
    assert_eq!(assert_right(&built.image, count)["notes"], Value::Array(Vec::new()));
    mount(&|root| fs::write(root.join(&store).join(&garbage), "").unwrap()).unwrap();
    let said = assert_right(&built.image, count);
    assert_eq!(said["stores"][0]["unregistered"], 1);
    assert!(said["notes"][0].as_str().unwrap().contains(&garbage), "{said:#}");
    let text = look("inspect", &built.image, &[]).expect_success().stdout;
    let knows = format!("knows {count} of {}; 1 is not valid\n", count + 1);
    assert!(text.contains(&knows), "{text}");
    let emptied = |root: &Path| {
        for path in &closure.paths {
            let to = root.join(path.base_name());
            fs::rename(root.join(&store).join(path.base_name()), &to).unwrap();
        }
        fs::remove_file(root.join(&store).join(&garbage)).unwrap();
    };
    let lost = closure.path("file").base_name().to_owned();
    mount(&|root| fs::remove_file(root.join(&store).join(&lost)).unwrap()).unwrap();
    assert_fault(&built.image, &["partition 2: nix/store/", &lost, "is registered but missing"]);
    // A store in which nothing is left is one all the same.
    mount(&|root| fs::write(root.join(&store).join(&lost), "").unwrap()).unwrap();
    mount(&emptied).unwrap();
    let run = look("verify", &built.image, &[]).expect_failure(1);
    assert_eq!(run.stdout.matches("is registered but missing").count() as u64, count, "{}", run.stdout);
}

#[test]
fn changes_that_wait_beside_the_database_count() {
    let closure = closure();
    let count = closure.paths.len() as u64;
    let Some(root) = booted(&closure) else { return };
    if !need("python3") {
        return;
    }
    let database = root.path().join(DATABASE);
    // Nothing refers to the system itself.
    let system = closure.paths.iter().find(|path| path.base_name().contains("nixos-system")).unwrap();
    let gone = system.base_name().to_owned();
    fs::remove_dir_all(root.path().join("nix/store").join(&gone)).unwrap();
    let row = format!("(select id from ValidPaths where path like '%{gone}')");
    cut_off(&database, &format!("delete from Refs where referrer = {row}; delete from ValidPaths where id = {row}"));
    let log = fs::metadata(database.with_extension("sqlite-wal")).unwrap().len();
    let Some(image) = mkfs_ext4(root.path(), &[]) else { return };
    let said = assert_right(image.path(), count - 1);
    let note = format!("partition 1: {DATABASE}-wal: {log} bytes are not in the database yet; it was read with them");
    assert_eq!(said["notes"], Value::from(vec![note]));
    let text = look("inspect", image.path(), &[]).expect_success().stdout;
    assert!(text.contains("knows all of them; ") && text.contains(&format!("wait in {DATABASE}-wal\n")), "{text}");
    fs::remove_file(database.with_extension("sqlite-wal")).unwrap();
    let Some(image) = mkfs_ext4(root.path(), &[]) else { return };
    assert_fault(image.path(), &[&gone, "is registered but missing"]);
}

#[test]
fn a_transaction_that_was_cut_off_is_undone() {
    let closure = closure();
    let Some(root) = booted(&closure) else { return };
    if !need("python3") {
        return;
    }
    let database = root.path().join(DATABASE);
    let many = "insert into DerivationOutputs with recursive n(x) as (values(1) union all select x + 1 from n \
                where x < 9000) select 1, x, x from n";
    cut_off(&database, &format!("pragma journal_mode = delete; begin; update ValidPaths set hash = \"x\"; {many}"));
    assert!(fs::metadata(database.with_extension("sqlite-journal")).unwrap().len() > 0);
    let Some(image) = mkfs_ext4(root.path(), &[]) else { return };
    assert_right(image.path(), closure.paths.len() as u64);
}

#[test]
fn a_database_that_cannot_be_read_is_one_fault() {
    let closure = closure();
    let Some(root) = booted(&closure) else { return };
    if !need("python3") {
        return;
    }
    let database = root.path().join(DATABASE);
    let whole = fs::read(&database).unwrap();
    let damage = |at: u64| File::options().write(true).open(&database).unwrap().write_all_at(&[0x55; 64], at).unwrap();
    let cases: [(&dyn Fn(), &str); 3] = [
        (&|| damage(0), "is not an intact SQLite database: file is not a database"),
        (&|| damage(4096), "is not an intact SQLite database: "),
        (
            &|| {
                python("import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('drop table Refs')", &database)
            },
            "is not a database of Nix",
        ),
    ];
    for (change, why) in cases {
        change();
        let Some(image) = mkfs_ext4(root.path(), &[]) else { return };
        assert_fault(image.path(), &[&format!("partition 1: {DATABASE}: {why}")]);
        let run = look("inspect", image.path(), &[]).expect_failure(1);
        assert!(run.stdout.contains(&format!("{DATABASE} in partition 1 cannot be read")), "{}", run.stdout);
        fs::write(&database, &whole).unwrap();
    }
}

/// The store is a filesystem of its own; Nix's state lies on the root.
#[test]
fn the_database_may_lie_in_another_filesystem() {
    let closure = closure();
    let Some(root) = booted(&closure) else { return };
    if !need("sgdisk") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(state.path().join("nix")).unwrap();
    fs::rename(root.path().join("nix/var"), state.path().join("nix/var")).unwrap();
    let (Some(store), Some(state)) = (mkfs_ext4(&root.path().join("nix/store"), &[]), mkfs_ext4(state.path(), &[]))
    else {
        return;
    };
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(132 << 20).unwrap();
    tool::run(tool("sgdisk").args(["-n", "1:2048:+64M", "-n", "2:0:+64M"]).arg(disk.path()));
    for (at, part) in [(1, &store), (65, &state)] {
        disk.as_file().write_all_at(&fs::read(part.path()).unwrap(), at << 20).unwrap();
    }
    let said = assert_right(disk.path(), closure.paths.len() as u64);
    assert_eq!(said["stores"][0]["registeredIn"], Value::from(vec![DATABASE]));
    let text = look("inspect", disk.path(), &[]).expect_success().stdout;
    assert!(text.contains(&format!("{DATABASE} in partition 2 knows all of them")), "{text}");
}
